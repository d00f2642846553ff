"""Numbers of any depth become 0 to 255."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.reading import MINMAX, PERCENTILES, Reading
from fedrsclip_core.errors import DataError

_SAMPLED = 2**20
"""Numbers of which percentiles are computed at most, evenly taken from an image."""

Band = tuple[NDArray[Any], NDArray[np.bool_]]
"""A band's numbers ``(H, W)`` and where they are data."""


def stretched(
    bands: Sequence[Band], reading: Reading, opaque: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Return bands ``(H, W)`` as ``(H, W, len(bands))``, black where there are no data.

    What a word says is found in each image, in one range for all its bands: ranges of their own
    would take away what distinguishes them, so that a forest is not green.

    Parameters
    ----------
    bands : Sequence[Band]
        The chosen bands; those of 8 bits may stay as they are.
    reading : Reading
        ``stretch`` is read.
    opaque : NDArray[np.bool_] or None
        ``(H, W)``, false where alpha hides what is stored; there no range is looked for.

    Raises
    ------
    DataError
        If there are no data, or only one number; if numbers have more than 8 bits and no stretch
        is set; or if all lie beyond the same end of a fixed range.
    """
    if not any(valid.any() for _, valid in bands):
        raise DataError("has no pixel with data")
    if is_found_in_each(reading):
        seen = bands if opaque is None or not opaque.any() else _where(bands, opaque)
        return _all_scaled(bands, [_found(seen, reading)] * len(bands))
    if reading.ranges:
        _check_inside(bands, _fixed(bands, reading))
    return stretched_alike(bands, reading)


def is_found_in_each(reading: Reading) -> bool:
    """Whether each image has a range of its own, so that no part of it is stretched alone."""
    return bool(reading.stretch) and reading.stretch[0] in (MINMAX, PERCENTILES)


def stretched_alike(bands: Sequence[Band], reading: Reading) -> NDArray[np.uint8]:
    """Return bands of any part of an image as :func:`stretched` does of the whole, by one range.

    Raises
    ------
    DataError
        If numbers have more than 8 bits and no stretch is set, or the ranges are not those of as
        many or such bands.
    """
    return _all_scaled(bands, _fixed(bands, reading)) if reading.ranges else _unchanged(bands)


def _all_scaled(bands: Sequence[Band], ranges: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    scaled = [
        _scaled(numbers, valid, *ends) for (numbers, valid), ends in zip(bands, ranges, strict=True)
    ]
    return np.stack(scaled, axis=-1)


def _unchanged(bands: Sequence[Band]) -> NDArray[np.uint8]:
    if odd := next((numbers.dtype for numbers, _ in bands if numbers.dtype != np.uint8), None):
        raise DataError(
            f"has numbers of type {odd}, which do not fit 8 bits: set data.stretch, as [0,3000] or "
            "percentiles"
        )
    shown = [numbers if valid.all() else np.where(valid, numbers, 0) for numbers, valid in bands]
    return np.stack(shown, axis=-1)


def _fixed(bands: Sequence[Band], reading: Reading) -> list[tuple[float, float]]:
    ranges = list(reading.ranges) * (len(bands) if len(reading.ranges) == 1 else 1)
    if len(ranges) != len(bands):
        raise DataError(
            f"shows {len(bands)} band{'s' * (len(bands) > 1)}, but data.stretch has "
            f"{len(ranges)} ranges: give one, or data.bands three"
        )
    for (numbers, _), (_, high) in zip(bands, ranges, strict=True):
        if numbers.dtype == np.uint8 and high > _LAST:
            raise DataError(
                f"has 8-bit numbers, but data.stretch goes up to {high:g}: it would be nearly "
                "black; keep it apart from deeper images, or stretch by percentiles"
            )
    return ranges


def _check_inside(bands: Sequence[Band], ranges: Sequence[tuple[float, float]]) -> None:
    low, high = (end(f(b) for b in bands) for end, f in ((min, _lowest), (max, _highest)))
    pairs = zip(bands, ranges, strict=True)
    sides = {_side(band, ends) for band, ends in pairs if band[1].any()}
    if len(sides) == 1 and (side := sides.pop()):
        raise DataError(
            f"has numbers from {low:g} to {high:g}, all of them {side} the range of data.stretch: "
            "give it the range of these images"
        )


def _side(band: Band, ends: tuple[float, float]) -> str:
    """Say beyond which end of a range all numbers of a band lie; empty if they do not."""
    half = (ends[1] - ends[0]) / _LAST / 2
    if _highest(band) < ends[0] + half:
        return "below"
    return "above" if _lowest(band) > ends[1] - half else ""


def _found(bands: Sequence[Band], reading: Reading) -> tuple[float, float]:
    """Return the range that all valid numbers of an image have, or most of them."""
    whole = min(map(_lowest, bands)), max(map(_highest, bands))
    if not whole[0] < whole[1]:
        raise DataError(f"has the number {whole[0]:g} everywhere, which no stretch can show")
    if reading.stretch[0] == MINMAX:
        return whole
    numbers = np.concatenate([_sample(numbers[valid], len(bands)) for numbers, valid in bands])
    low, high = np.percentile(numbers.astype(np.float64), [float(p) for p in reading.stretch[1:]])
    # Of an image that is constant but for a few pixels, those are what there is to see.
    return (float(low), float(high)) if low < high else whole


def _where(bands: Sequence[Band], opaque: NDArray[np.bool_]) -> list[Band]:
    return [(numbers, valid & opaque) for numbers, valid in bands]


def _sample(numbers: NDArray[Any], num_bands: int) -> NDArray[Any]:
    step = -(-len(numbers) * num_bands // _SAMPLED)
    return numbers[:: max(1, step)]


def _lowest(band: Band) -> float:
    numbers, valid = band
    return float(numbers[valid].min()) if valid.any() else float("inf")


def _highest(band: Band) -> float:
    numbers, valid = band
    return float(numbers[valid].max()) if valid.any() else float("-inf")


def _scaled(
    numbers: NDArray[Any], valid: NDArray[np.bool_], low: float, high: float
) -> NDArray[np.uint8]:
    """Return ``low`` and below as 0, ``high`` and above as 255, what is not data as 0."""
    # float32 holds all integers of 16 bits; of wider ones it would lose what distinguishes them.
    narrow = numbers.dtype.itemsize <= 2 or numbers.dtype == np.float32
    everywhere = bool(valid.all())
    values: NDArray[Any] = numbers if everywhere else np.where(valid, numbers, 0)
    values = values.astype(np.float32 if narrow else np.float64)
    values = (values - low) * (_LAST / (high - low))
    np.clip(values, 0, _LAST, out=values)
    np.rint(values, out=values)
    return (values if everywhere else np.where(valid, values, 0)).astype(np.uint8)


_LAST = 255
