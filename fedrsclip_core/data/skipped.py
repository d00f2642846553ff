"""Images that are left out because they cannot be read."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.errors import DataError


@dataclass
class Skipped:
    """Unreadable images, and how many of them are too many.

    Attributes
    ----------
    source : ImageSource
        Whose images.
    wanted : list[int]
        All that were asked for.
    allowed : float
        Fraction of them that may be unreadable.
    reasons : dict[int, str]
        Why each of the skipped ones is.
    """

    source: ImageSource
    wanted: list[int]
    allowed: float
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, i: int, reason: str) -> None:
        """Skip an image.

        Raises
        ------
        DataError
            If too many are skipped by now.
        """
        self.reasons[i] = reason
        if len(self.reasons) > self.allowed * len(self.wanted):
            names = [f"{self.source.describe(i)} {why}" for i, why in self.reasons.items()]
            raise DataError(
                f"{len(names)} of {len(self.wanted)} images are unreadable, more than "
                f"data.max_unreadable={self.allowed:g} allows: {'; '.join(names[:3])}"
                f"{' ...' if len(names) > 3 else ''}; repair them or take them away"
            )

    def report(self, on_event: Callable[[str], None]) -> None:
        """Tell of each skipped image, and how many there are."""
        for i, reason in self.reasons.items():
            on_event(f"skipped {self.source.describe(i)}: {reason}")
        if self.reasons:
            on_event(f"skipped {len(self.reasons)} of {len(self.wanted)} images as unreadable")
