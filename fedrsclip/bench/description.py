"""What a benchmark is: a yaml file beside this module, and what the command line changes in it.

A description is no part of any run's configuration: it does not travel and enters no digest.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedrsclip.bench import optional
from fedrsclip.bench.baselines import names as baselines
from fedrsclip.bench.optional import MIN_PAIRS
from fedrsclip.bench.shard import Shard
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.overrides import key_of, split_site_overrides
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

GRIDS = Path(__file__).resolve().parent / "grids"
PROTOCOLS = ("standard", "tune", "unseen", "base_to_new")
LOCAL, RAY = ENGINES = ("local", "ray")

_GRID_KEYS = {
    "seed": "bench.seeds",
    "method": "bench.methods",
    "run.name": "bench.name",
    "run.resume": "nothing: an interrupted cell is always resumed",
}


@dataclass
class BenchConfig:
    """The description's schema; the yaml files explain the keys."""

    name: str = ""
    protocol: str = "standard"
    settings: dict[str, list[str]] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    method_overrides: dict[str, list[str]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    reference: str | None = None
    jobs: int | None = None
    engine: str = LOCAL
    address: str | None = None
    cell_cpus: float | None = None
    cell_gpus: float | None = None
    shard: str | None = None
    trials: dict[str, list[list[str]]] = field(default_factory=dict)
    based_on: dict[str, str] = field(default_factory=dict)
    again: bool = False
    tuned: str | None = None
    epochs: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    baselines: list[str] = field(default_factory=list)
    folders: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """A benchmark as asked for.

    Attributes
    ----------
    bench : BenchConfig
        The composed description.
    overrides : tuple of str
        Given on the command line for every cell, without site keys.
    site : tuple of str
        The site keys given on the command line.
    """

    bench: BenchConfig
    overrides: tuple[str, ...] = ()
    site: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return paths.bench_dir(self.bench.name)

    @property
    def shard(self) -> Shard | None:
        """The part of the cells that is run; ``None`` for all."""
        return None if self.bench.shard is None else Shard.parse(self.bench.shard)

    @property
    def place(self) -> Path:
        """Where the lock and the logs are: those of a part are its own."""
        return self.folder / self.shard.folder_name if self.shard else self.folder

    def images_of(self, setting: str) -> str:
        """Return the folder of a setting's own images; empty if it has none or no root is given."""
        below = self.bench.folders.get(setting)
        _, site = split_site_overrides(self.site)
        root = site.get("data.path") or os.environ.get(SITE_KEYS["data.path"].variable)
        return str(Path(root).expanduser().resolve() / below) if below and root else ""

    @property
    def tuned_file(self) -> Path:
        """The user's own table of tuned values."""
        given = self.bench.tuned
        return Path(given).expanduser().resolve() if given else paths.tuned_file()


def describe(arguments: Sequence[str]) -> Description:
    """Compose a description from ``bench=NAME``, ``bench.key=value`` and overrides of every cell.

    Raises
    ------
    ConfigError
        One sentence naming what is wrong.
    """
    file = _file([text.partition("=")[2] for text in arguments if key_of(text) == "bench"])
    own = [text for text in arguments if key_of(text).startswith("bench.")]
    rest = [text for text in arguments if key_of(text).partition(".")[0] != "bench"]
    chosen = [text for text in own if _is_choice(text)]
    changes = [_forced(text) for text in own if text not in chosen]
    bench = configuration.compose_file(file, changes, BenchConfig)
    bench.name = bench.name or file.stem
    for text in chosen:
        bench.settings = _chosen(bench.settings, text)
    _check(bench)
    travelling, _ = split_site_overrides(rest)
    for text in (*travelling, *bench.overrides, *_nested(bench)):
        if key_of(text) in _GRID_KEYS:
            raise ConfigError(f"{key_of(text)} belongs to the grid: set {_GRID_KEYS[key_of(text)]}")
    site = tuple(text for text in rest if text not in travelling)
    return Description(bench, tuple(travelling), site)


def names() -> list[str]:
    """Return the descriptions that come with the package."""
    return sorted(path.stem for path in GRIDS.glob("*.yaml"))


def _file(given: Sequence[str]) -> Path:
    listed = ", ".join(names())
    if not given:
        raise ConfigError(f"no benchmark is named: give bench=NAME, one of {listed}")
    if given[-1].endswith(".yaml"):
        file = Path(given[-1]).expanduser().resolve()
        if not file.is_file():
            raise ConfigError(f"there is no description of a benchmark at {file}")
        return file
    if given[-1] not in names():
        raise ConfigError(
            f"bench={given[-1]} does not exist: choose one of {listed}, or give a yaml file"
        )
    return GRIDS / f"{given[-1]}.yaml"


def _forced(text: str) -> str:
    """Return the override as one that may add a key: the schema knows which there are."""
    return "++" + text.strip().lstrip("+").removeprefix("bench.")


def _is_choice(text: str) -> bool:
    """Whether the text is ``bench.settings=[name, ...]``: some of the settings that are there."""
    return key_of(text) == "bench.settings" and text.partition("=")[2].startswith("[")


def _chosen(settings: dict[str, list[str]], text: str) -> dict[str, list[str]]:
    wanted = [name.strip() for name in text.partition("=")[2].strip("[]").split(",")]
    for name in wanted:
        if name not in settings:
            raise ConfigError(f"there is no setting {name!r}: choose from {', '.join(settings)}")
    return {name: settings[name] for name in wanted}


def _check(bench: BenchConfig) -> None:
    for key in ("settings", "methods", "seeds"):
        if not getattr(bench, key):
            raise ConfigError(f"bench.{key} is empty: the grid has no cell")
    for text in (bench.name, *bench.settings, *bench.methods):
        paths.safe_name(text, "a name of the benchmark")
    for key in ("methods", "seeds", "baselines"):
        values = getattr(bench, key)
        if len(set(values)) < len(values):
            raise ConfigError(f"bench.{key} holds a value twice")
    if bench.protocol not in PROTOCOLS:
        raise ConfigError(
            f"bench.protocol is {bench.protocol!r}: choose one of {', '.join(PROTOCOLS)}"
        )
    if bench.jobs is not None and bench.jobs < 1:
        raise ConfigError(f"bench.jobs is {bench.jobs}: it must be at least 1")
    _check_engine(bench)
    if bench.reference is not None and bench.reference not in bench.methods:
        raise ConfigError(
            f"bench.reference is {bench.reference}, which is not in bench.methods: add it, or "
            "set bench.reference=null"
        )
    _check_baselines(bench)
    _check_pairs(bench)


def _check_engine(bench: BenchConfig) -> None:
    if bench.engine not in ENGINES:
        raise ConfigError(f"bench.engine is {bench.engine}: choose one of {', '.join(ENGINES)}")
    values = {key: getattr(bench, key) for key in ("address", "cell_cpus", "cell_gpus")}
    for key, value in values.items():
        if value is not None and bench.engine != RAY:
            raise ConfigError(f"bench.{key} is read by bench.engine={RAY} alone: give that, too")
        if isinstance(value, float) and not 0 < value < math.inf:
            raise ConfigError(f"bench.{key} is {value:g}: it must be more than 0")
    gpus = bench.cell_gpus or 0.0
    if gpus > 1 and not gpus.is_integer():
        raise ConfigError(f"bench.cell_gpus is {gpus:g}: give whole GPUs, or a part of one")
    if bench.shard is not None:
        Shard.parse(bench.shard)
        if bench.protocol == "tune":
            raise ConfigError(
                "bench.shard does not go with bench.protocol=tune, whose later trials build on the "
                f"best of all earlier ones: use bench.engine={RAY} to run it on several machines"
            )


def _check_baselines(bench: BenchConfig) -> None:
    for name in bench.baselines:
        if name not in baselines.NAMES:
            listed = ", ".join(baselines.NAMES)
            raise ConfigError(f"bench.baselines names {name!r}: choose from {listed}")
        if name in bench.methods:
            raise ConfigError(f"{name} is a baseline: take it out of bench.methods")
        if name in baselines.BY_SCIKIT_LEARN:
            optional.check(f"the baseline {name}")


def _check_pairs(bench: BenchConfig) -> None:
    """Say before anything runs what the tables will need."""
    if bench.reference is not None and len(bench.seeds) >= MIN_PAIRS:
        optional.check(f"a table of differences over {MIN_PAIRS} seeds or more")


def _nested(bench: BenchConfig) -> list[str]:
    return [text for texts in bench.settings.values() for text in texts]
