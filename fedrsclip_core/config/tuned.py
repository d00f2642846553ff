"""Values that were tuned: one table, by experiment and method.

What ships is ``conf/tuned.yaml``. A user's own table has the same form and never travels: what
counts of it is written into the overrides of a run before that is submitted.
"""

import json
from pathlib import Path
from typing import Any

from fedrsclip_core.config.overrides import quote
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import fileio

Values = dict[str, Any]
"""By dotted key, in the order in which they were chosen."""
Table = dict[str, dict[str, Values]]
"""By experiment and method."""

_HEAD = (
    "# What `fedrsclip bench` chose on validation images for a method under an experiment, with\n"
    "# as many trials for each method (bench=uc_merced_tune).\n\n"
)


def read_table(file: Path) -> Table:
    """Read a table; empty if there is no such file.

    Raises
    ------
    ConfigError
        If the file is damaged.
    """
    from omegaconf import OmegaConf

    try:
        read = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(read, dict)
        return {str(e): {m: dict(v) for m, v in ms.items()} for e, ms in read.items()}
    except FileNotFoundError:
        return {}
    except Exception as error:
        raise ConfigError(
            f"the tuned values in {file} cannot be read: repair the file, or remove it to choose "
            "them again"
        ) from error


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
