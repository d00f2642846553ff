"""How long a cell will probably take: like cells take alike."""

from collections.abc import Mapping, Sequence
from statistics import mean

Kind = tuple[str, str]
"""A cell's setting, and its method with its variant."""


def expected_seconds(taken: Mapping[Kind, Sequence[float]], kind: Kind) -> float | None:
    """Estimate the seconds of a cell.

    Parameters
    ----------
    taken : Mapping[Kind, Sequence[float]]
        Seconds of the cells that have ended.
    kind : Kind
        What kind of cell is asked for.

    Returns
    -------
    float or None
        The mean over the same cell with other seeds, else over its method in other settings, else
        over all; ``None`` if no cell has ended.
    """
    of_method = [one for other, many in taken.items() if other[1] == kind[1] for one in many]
    of_any = [one for many in taken.values() for one in many]
    found = taken.get(kind) or of_method or of_any
    return mean(found) if found else None
