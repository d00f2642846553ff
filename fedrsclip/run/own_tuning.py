"""What a user has tuned counts for the user's runs, is said, and travels as plain overrides."""

from collections.abc import Sequence
from pathlib import Path

from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.tuned import as_overrides


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
    decided = any(text.partition("=")[0] == configuration.TUNED for text in overrides)
    if decided or not file.exists():
        return []
    values = configuration.tuned_values(overrides, file)
    return [] if values is None else [f"{configuration.TUNED}=null", *as_overrides(values)]
