"""Decode images before a run is started: some of them in a moment, or each one."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fedrsclip.run.preflight import images_of
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.errors import DataError
from fedrsclip_core.machine import available_cpus

_SOME = 24
"""Images in which what is wrong with all of a data set is seen."""
_AT_ONCE = 1024
_PROGRESS_SECONDS = 5.0
_NUMBER = re.compile(r"\d+")
_SHOWN = 5
"""Reasons, and names of images, that a sentence lists."""


def decode_some(source: ImageSource, among: Sequence[int]) -> str:
    """Decode images from all parts of a data set; return what was found.

    Parameters
    ----------
    source : ImageSource
        The images.
    among : Sequence[int]
        Those to choose from.

    Raises
    ------
    DataError
        If none of them can be read, as where a whole data set has bands or depths of another kind.
    """
    places = np.unique(np.linspace(0, len(among) - 1, _SOME).astype(int))
    chosen = [among[place] for place in places]
    failed = dict(_unreadable(source, chosen))
    if len(failed) == len(chosen):
        raise DataError(
            f"no image of {len(chosen)} that were tried can be read: {_reasons(failed)}"
        )
    if failed:
        return (
            f"{len(failed)} of {len(chosen)} that were tried cannot be read: {_reasons(failed)}; "
            "`fedrsclip check --images` tries all"
        )
    return f"{len(chosen)} were tried and can be read; --images tries all"


def decode_all(config: Config, echo: Callable[[str], None]) -> str:
    """Decode every image; return what was found.

    Parameters
    ----------
    config : Config
        ``data``, ``partition`` and ``seed`` are read.
    echo : Callable[[str], None]
        Receives a line now and then.

    Raises
    ------
    DataError
        If more than ``data.max_unreadable`` of them cannot be read, with the counts by reason.
    """
    source = images_of(config)
    failed: dict[int, str] = {}
    started = said = time.monotonic()
    for done, (i, problem) in enumerate(_decoded(source, range(len(source))), 1):
        if problem is not None:
            failed[i] = problem
        now = time.monotonic()
        if now - said >= _PROGRESS_SECONDS and done < len(source):
            left = (now - started) / done * (len(source) - done)
            echo(f"         {done} of {len(source)} images, about {left:.0f} s left")
            said = now
    if not failed:
        return f"all {len(source)} can be read"
    names = ", ".join(source.describe(i) for i in list(failed)[:_SHOWN])
    found = f"{len(failed)} of {len(source)} cannot be read: {_reasons(failed)}; {names}"
    found += ", ..." if len(failed) > _SHOWN else ""
    if len(failed) > config.data.max_unreadable * len(source):
        raise DataError(f"{found}; data.max_unreadable={config.data.max_unreadable:g} allows fewer")
    return f"{found}; a run leaves them out"


def _unreadable(source: ImageSource, chosen: Sequence[int]) -> Iterator[tuple[int, str]]:
    return ((i, problem) for i, problem in _decoded(source, chosen) if problem is not None)


def _decoded(source: ImageSource, chosen: Sequence[int]) -> Iterator[tuple[int, str | None]]:
    """Yield each image with what is wrong with it."""

    def look(i: int) -> tuple[int, str | None]:
        try:
            source.image(i)
        except DataError as error:
            return i, str(error)
        return i, None

    with ThreadPoolExecutor(available_cpus()) as pool:
        for start in range(0, len(chosen), _AT_ONCE):  # there may be millions
            yield from pool.map(look, chosen[start : start + _AT_ONCE])


def _reasons(failed: dict[int, str]) -> str:
    """Return how many images have which problem, those of other sizes together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for problem in failed.values():
        groups[_NUMBER.sub("#", problem)].append(problem)
    most_first = sorted(groups.values(), key=len, reverse=True)
    listed = [f"{len(problems)} x {problems[0]}" for problems in most_first[:_SHOWN]]
    more = len(most_first) - _SHOWN
    return "; ".join([*listed, *([f"{more} other reasons"] if more > 0 else [])])
