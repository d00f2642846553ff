"""A part of a grid: several commands share the cells out that lie in one folder."""

import re
from dataclasses import dataclass
from typing import Self

from fedrsclip_core.errors import ConfigError

_WRITTEN = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts; ``number`` counts from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``3/10``.

        Raises
        ------
        ConfigError
            If it is no such pair of numbers.
        """
        found = _WRITTEN.fullmatch(text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(
                f"bench.shard is {text}: give the number of the part and how many there are, "
                "e.g. 3/10, from 1/10 to 10/10"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def folder_name(self) -> str:
        """The name of its folder below the benchmark's."""
        return f"shard-{self.number}-of-{self.count}"
