"""Values that were tuned: one table, by experiment and method.

What ships is ``conf/tuned.yaml``. A user's own table has the same form and never travels: what
counts of it is written into the overrides of a run before that is submitted.
"""

from pathlib import Path
from typing import Any

from fedrsclip_core.errors import ConfigError

Values = dict[str, Any]
"""By dotted key, in the order in which they were chosen."""
Table = dict[str, dict[str, Values]]
"""By experiment and method."""


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
