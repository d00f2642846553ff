"""How images become the RGB pictures that a CLIP sees: bands, stretch and nodata."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedrsclip_core.config.schema import DataConfig
from fedrsclip_core.errors import ConfigError

NONE, MINMAX, PERCENTILES = "none", "minmax", "percentiles"
"""The words of ``data.stretch``; instead of a word it may hold the ends of ranges."""

_DEFAULT_PERCENTILES = ("2", "98")
_FORMS = (
    f"give {NONE}, {MINMAX}, {PERCENTILES}, [{PERCENTILES},1,99], a range as [0,3000], or a range "
    "for each of three bands as [0,3000,0,2500,0,2000]"
)


@dataclass(frozen=True)
class Reading:
    """Which bands of an image are seen, and how their numbers become 0 to 255.

    Parameters
    ----------
    bands : Sequence[str or int]
        Numbers from 1, or names: one band, shown as grey, or those of red, green and blue. Empty:
        the image must itself say which they are.
    stretch : Sequence[str or float]
        ``("none",)``, ``("minmax",)``, ``("percentiles", 2, 98)``, or the ends of one range, or of
        one range for each of three bands. Empty: values must be of 8 bits, and stay as they are.
    nodata : float or None
        The stored number of pixels without data, in place of what an image itself says.

    Raises
    ------
    ConfigError
        If a band or the stretch is none of these, or the nodata value is no finite number.
    """

    bands: tuple[str, ...] = ()
    stretch: tuple[str, ...] = ()
    nodata: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", _bands(self.bands))
        object.__setattr__(self, "stretch", _stretch(self.stretch, len(self.bands)))
        if self.nodata is not None and not math.isfinite(self.nodata):
            raise ConfigError(
                f"data.nodata is {self.nodata}: give a finite number (what is not a number never "
                "counts as data)"
            )

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """The fixed ranges, one for all bands or one for each; empty for a word."""
        if not self.stretch or self.stretch[0] in (NONE, MINMAX, PERCENTILES):
            return ()
        ends = [float(end) for end in self.stretch]
        return tuple(zip(ends[::2], ends[1::2], strict=True))

    @property
    def key(self) -> str:
        """A text that another reading does not have; empty for the default."""
        if self == AS_THEY_ARE:
            return ""
        return json.dumps([self.bands, self.stretch, self.nodata])

    def __str__(self) -> str:
        """Return the keys that are set, as overrides."""
        parts = [
            f"data.bands=[{','.join(self.bands)}]" if self.bands else "",
            f"data.stretch=[{','.join(self.stretch)}]" if self.stretch else "",
            "" if self.nodata is None else f"data.nodata={self.nodata:g}",
        ]
        return " ".join(part for part in parts if part)


def reading_of(data: DataConfig) -> Reading:
    """Return how a configuration reads images.

    Raises
    ------
    ConfigError
        As :class:`Reading`.
    """
    return Reading(tuple(data.bands), tuple(data.stretch), data.nodata)


def with_own_reading(data: DataConfig, own: Mapping[str, str]) -> DataConfig:
    """Return a configuration in which a site's own words stand for some of the federation's.

    Parameters
    ----------
    data : DataConfig
        The federation's.
    own : Mapping[str, str]
        Of ``bands``, ``stretch`` and ``nodata`` those that the site has its own of, as overrides
        have them: ``[4,3,2]``, ``percentiles``, ``0``; ``[]`` and ``null`` for none.

    Raises
    ------
    ConfigError
        As :class:`Reading`, and if ``nodata`` is no number.
    """
    changed = replace(
        data,
        bands=_items(own["bands"]) if "bands" in own else data.bands,
        stretch=_items(own["stretch"]) if "stretch" in own else data.stretch,
        nodata=_number_or_none(own["nodata"]) if "nodata" in own else data.nodata,
    )
    reading_of(changed)
    return changed


def _items(text: str) -> list[str]:
    items = (item.strip().strip("'\"") for item in text.strip().strip("[]").split(","))
    return [item for item in items if item]


def _number_or_none(text: str) -> float | None:
    try:
        return None if text.strip() == "null" else float(text)
    except ValueError:
        raise ConfigError(f"data.nodata is {text[:60]!r}: give a number or null") from None


def _bands(given: Sequence[str | int]) -> tuple[str, ...]:
    bands = tuple(str(band).strip() for band in given)
    if len(bands) not in (0, 1, 3):
        raise ConfigError(
            f"data.bands has {len(bands)} bands: give one, which is shown as grey, or those of "
            "red, green and blue"
        )
    for band in bands:
        if not band or (band.lstrip("+-").isdigit() and not (band.isdigit() and int(band) > 0)):
            raise ConfigError(f"data.bands has {band!r}: bands are numbered from 1, or named")
    return bands


def _stretch(given: Sequence[str | float], num_bands: int) -> tuple[str, ...]:
    texts = tuple(str(text).strip() for text in given)
    if not texts:
        return ()
    word = texts[0].lower()
    if word in (NONE, MINMAX) and len(texts) == 1:
        return (word,)
    if word == PERCENTILES and len(texts) in (1, 3):
        ends = _numbers(texts[1:] or _DEFAULT_PERCENTILES)
        if not 0 <= ends[0] < ends[1] <= 100:
            raise ConfigError(
                f"data.stretch has the percentiles {ends[0]:g} and {ends[1]:g}: the first must be "
                "below the second, both in [0, 100]"
            )
        return (PERCENTILES, *map(_text, ends))
    ends = _numbers(texts)
    if len(ends) not in (2, 6) or (len(ends) == 6 and num_bands == 1):
        raise ConfigError(f"data.stretch has {len(ends)} numbers: {_FORMS}")
    for low, high in zip(ends[::2], ends[1::2], strict=True):
        if not low < high:
            raise ConfigError(
                f"data.stretch has the range [{low:g},{high:g}]: its first number must be below "
                "its second"
            )
    return tuple(map(_text, ends))


def _numbers(texts: Sequence[str]) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise ConfigError(f"data.stretch is [{','.join(texts)[:60]}]: {_FORMS}") from None
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"data.stretch is [{','.join(texts)[:60]}]: its ends must be finite")
    return numbers


def _text(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


AS_THEY_ARE = Reading()
"""Grey and RGB images of 8 bits, as they are."""
