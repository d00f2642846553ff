"""The cells of a grid: each is one whole run with a name, overrides and a seed."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedrsclip.bench.description import Description
from fedrsclip.bench.shard import Shard
from fedrsclip.run.own_tuning import own_overrides
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.class_texts import with_class_file
from fedrsclip_core.config.overrides import for_simulation, join_overrides, key_of, quote
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.unread import unread_keys
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

_OF_ONE_CELL = ("seed", "run.name")


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes
    ----------
    name : str
        The run's name.
    setting, method : str
        Which row and column of the grid.
    seed : int
        The run's seed.
    overrides : tuple of str
        All that the run is submitted with, site keys left out.
    variant : str
        What a protocol does with the method; empty where it does one thing.
    partitions : tuple of int
        The clients that take part; empty for all.
    after : str
        Name of a cell that must be completed before; empty for none.
    data_path : str
        Where the images are, if not where the others' are.
    own : tuple of str
        Those of the overrides that come from the user's own table of tuned values.
    """

    name: str
    setting: str
    method: str
    seed: int
    overrides: tuple[str, ...]
    variant: str = ""
    partitions: tuple[int, ...] = ()
    after: str = ""
    data_path: str = ""
    own: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The method with its variant, for tables."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return paths.runs_dir() / self.name

    @property
    def submitted(self) -> list[str]:
        """The overrides as a simulation adds to them."""
        return for_simulation(self.overrides)

    def at_site(self, site: Sequence[str]) -> list[str]:
        """Return the overrides with the site keys of this machine and the cell's own images."""
        own = [f"data.path={quote(self.data_path)}"] if self.data_path else []
        return [*self.overrides, *site, *own]

    @property
    def job(self) -> dict[str, Any]:
        """What a worker is told."""
        return {
            "name": self.name,
            "configuration": to_json(self.config),
            "overrides": self.submitted,
            "partitions": self.partitions,
            "data_path": self.data_path,
        }

    @property
    def config(self) -> Config:
        """The composed configuration."""
        common = tuple(text for text in self.submitted if key_of(text) not in _OF_ONE_CELL)
        # Cells that differ in seed and name only are composed once: it takes a second.
        config = copy.deepcopy(_composed(common))
        config.seed, config.run.name = self.seed, self.name
        return config


def make_cell(
    description: Description,
    setting: str,
    method: str,
    seed: int,
    *,
    variant: str = "",
    extra: Sequence[str] = (),
    partitions: Sequence[int] = (),
    after: str = "",
) -> Cell:
    """Put a cell together; ``extra`` are a protocol's own overrides and win over all others.

    Raises
    ------
    ConfigError
        If its name is too long for a folder.
    """
    bench = description.bench
    name = run_name(bench.name, setting, method, variant, seed)
    overrides = merged(
        with_class_file(bench.settings[setting]),
        with_class_file(bench.overrides),
        [f"method={method}"],
        with_class_file(description.overrides),
        bench.method_overrides.get(method, []),
        extra,
        [f"seed={seed}", f"run.name={paths.safe_name(name, 'the name of a cell')}"],
    )
    own = tuple(own_overrides(overrides, description.tuned_file))
    overrides = merged(own, overrides)
    return Cell(
        name,
        setting,
        method,
        seed,
        overrides,
        variant,
        tuple(partitions),
        after,
        data_path=description.images_of(setting),
        own=own,
    )


def grid(description: Description) -> list[Cell]:
    """Return settings x seeds x methods, a seed of all methods after the other."""
    bench = description.bench
    return [
        make_cell(description, setting, method, seed)
        for setting in bench.settings
        for seed in bench.seeds
        for method in bench.methods
    ]


def part_of(cells: Sequence[Cell], shard: Shard) -> list[Cell]:
    """Return a shard's cells in the order of the grid.

    Each shard has as many cells of a method as the others, since like cells take alike. What
    builds on a cell is in the same one.
    """
    roots = [cell for cell in cells if not cell.after]
    alike = sorted(roots, key=lambda cell: cell.label)
    mine = {cell.name for cell in alike[shard.number - 1 :: shard.count]}
    return [cell for cell in cells if (cell.after or cell.name) in mine]


def merged(*lists: Iterable[str]) -> tuple[str, ...]:
    """Join lists of overrides; of several for one key the last counts."""
    found = {key_of(text): text for texts in lists for text in texts}
    return tuple(found.values())


def run_name(bench: str, setting: str, method: str, variant: str, seed: int | str) -> str:
    """Return the name of a cell's run."""
    middle = f"-{variant.replace(' ', '')}" if variant else ""
    return f"bench-{bench}-{setting}-{method}{middle}-seed{seed}"


def repeat_command(cell: Cell) -> str:
    """Return the command that runs a cell's configuration by itself, without site keys."""
    unread = {"run.name", *unread_keys(cell.config)}
    overrides = [text for text in cell.overrides if key_of(text) not in unread]
    return f"fedrsclip run {join_overrides(overrides)}"


def refuse_unread(description: Description, cells: Sequence[Cell]) -> None:
    """Refuse a key of the command line that no cell reads; it may mean nothing to some.

    Raises
    ------
    ConfigError
        Naming who reads it.
    """
    given = [*description.overrides, *description.site]
    unread = [unread_keys(cell.config) for cell in cells]
    for key in map(key_of, given):
        if unread and all(key in keys for keys in unread):
            raise ConfigError(unread[0][key])


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    return configuration.compose(overrides, given=())
