"""What a user has tuned counts for the user's runs, is said, and travels as plain overrides."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip.run.resume import with_resumed
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.overrides import key_of, quote
from fedrsclip_core.config.tuned import Table, Values
from fedrsclip_core.runs import fileio, paths

_HEAD = (
    "# What `fedrsclip bench` chose on validation images for a method under an experiment, with\n"
    "# as many trials for each method (bench=uc_merced_tune).\n\n"
)


def as_started_here(overrides: Sequence[str], echo: Callable[[str], None]) -> list[str]:
    """Add what this user has tuned, and say so; a resumed run keeps what it was started with."""
    resumed = with_resumed(overrides)
    if resumed != list(overrides):
        return resumed
    own = own_overrides(overrides, paths.tuned_file())
    if own:
        echo(f"tuned values: {' '.join(own)}, from {paths.tuned_file()}")
    return [*own, *overrides]


def own_overrides(overrides: Sequence[str], file: Path) -> list[str]:
    """Return what a user's own table adds in front of a run's overrides, which all win over it.

    Parameters
    ----------
    overrides : Sequence[str]
        The run's. With ``tuned=recorded`` only what ships counts, with ``tuned=null`` nothing.
    file : Path
        The table; it may be absent.

    Returns
    -------
    list[str]
        ``tuned=null``, so that nothing of what ships is mixed in, and the values; empty if the
        table knows nothing of this experiment and method.

    Raises
    ------
    ConfigError
        If the table is damaged, or the overrides are wrong.
    """
    decided = any(key_of(text) == configuration.TUNED for text in overrides)
    if decided or not file.exists():
        return []
    values = configuration.tuned_values(overrides, file)
    return [] if values is None else [f"{configuration.TUNED}=null", *as_overrides(values)]


def write_table(file: Path, table: Table) -> None:
    """Replace a table."""
    lines = [_HEAD]
    for experiment, methods in table.items():
        lines.append(f"{experiment}:\n")
        for method, values in methods.items():
            lines.append(f"  {method}:\n")
            lines += [f"    {key}: {json.dumps(value)}\n" for key, value in values.items()]
    fileio.write_text(file, "".join(lines))


def merged(below: Table, above: Table) -> Table:
    """Return both tables in one; a method that both know has the values of ``above`` alone."""
    return {e: below.get(e, {}) | above.get(e, {}) for e in {**below, **above}}


def as_overrides(values: Values) -> list[str]:
    """Return values as overrides."""
    return [
        f"{key}={quote(value) if isinstance(value, str) else json.dumps(value)}"
        for key, value in values.items()
    ]
