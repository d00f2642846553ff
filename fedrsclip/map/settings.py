"""How large windows are and how far apart, as a person says it."""

import re
from dataclasses import dataclass

from fedrsclip_core.errors import ConfigError

OVERLAP = 0.5
"""Of neighbouring windows, unless said otherwise: borders are then found to half a window."""
_SMALLEST, _MOST = 8, 16
"""Pixels of a window, and windows across one another, that make sense."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(px|m|km)?")


@dataclass(frozen=True)
class Windows:
    """Windows of ``tile`` pixels every ``step`` pixels."""

    tile: int
    step: int


def windows(tile: str | int | None, overlap: str | float, side: int, pixel: float) -> Windows:
    """Return what settings mean for a scene.

    Parameters
    ----------
    tile : str or int or None
        Pixels, as 224 or ``224px``, or metres on the ground, as ``120m`` or ``0.5km``; by default
        ``side``.
    overlap : str or float
        0, or 1 - 1/k for a whole k: the share of a window that the next one also sees.
    side : int
        Pixels that the image tower takes.
    pixel : float
        Metres of a pixel's side.

    Raises
    ------
    ConfigError
        If they mean nothing.
    """
    across = _across(overlap)
    given = str(side if tile is None else tile).strip()
    match = _SIZE.fullmatch(given)
    if match is None:
        raise ConfigError(
            f"tile is {given[:40]!r}: give pixels, as tile=224, or metres on the ground, as "
            "tile=120m"
        )
    number, unit = float(match[1]), match[2]
    in_metres = unit in ("m", "km")
    pixels = number * (1000 if unit == "km" else 1) / pixel if in_metres else number
    exact = not in_metres and tile is not None
    size = round(pixels) if exact else across * max(1, round(pixels / across))
    if exact and (size != number or size % across):
        near = across * max(1, round(pixels / across))
        raise ConfigError(
            f"tile is {given} pixels, which an overlap of 1 - 1/{across} does not divide into "
            f"whole steps: give tile={near} or another overlap"
        )
    if size < _SMALLEST:
        raise ConfigError(
            f"tile is {given}, {size} pixels of this scene: at least {_SMALLEST} show anything"
        )
    return Windows(size, size // across)


def _across(overlap: str | float) -> int:
    """Return how many windows lie across one another in each direction."""
    try:
        share = float(overlap)
    except ValueError:
        share = -1.0
    if 0 <= share < 1:
        across = 1 / (1 - share)
        # 0.66 and 0.67 both mean two thirds.
        if round(across) <= _MOST and abs(share - (1 - 1 / round(across))) < 0.0101:
            return round(across)
    raise ConfigError(
        f"overlap is {str(overlap)[:40]!r}: give 0, 0.5, 0.67, 0.75, 0.8 or another 1 - 1/k, at "
        f"most {1 - 1 / _MOST:g}"
    )
