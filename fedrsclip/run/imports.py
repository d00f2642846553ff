"""What a run starts from, where a person gives a place: kept here, and named by its content.

A path says something of this machine and means nothing at another, so none travels.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip_core.config.overrides import key_of, unquoted
from fedrsclip_core.errors import ModelError, RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.imported import import_prompt
from fedrsclip_core.runs.published import (
    PROMPT,
    check_published,
    is_hub_id,
    is_published,
    pinned,
)
from fedrsclip_core.runs.run_folder import RunFolder

_KEY = "run.shared_init_from"
_COMMIT = re.compile("[^@]+@[0-9a-f]{40}")


def with_imports(overrides: Sequence[str], echo: Callable[[str], None]) -> list[str]:
    """Replace a place that a run starts from by what its server finds in the same home.

    A folder that was published, a run's folder or a file is imported; ``owner/name`` of the hub
    becomes the commit that is there now. Names of runs stay.

    Raises
    ------
    RunError
        If it cannot be had.
    """
    return [_imported(text, echo) if key_of(text) == _KEY else text for text in overrides]


def _imported(override: str, echo: Callable[[str], None]) -> str:
    given = unquoted(override.partition("=")[2].strip())
    place = paths.place(given, _KEY)
    here = bool(given) and place.exists() and not _is_run(given)
    if not here and not is_hub_id(given) and ("/" in given or given.startswith("~")):
        raise RunError(
            f"{_KEY} is {given}, and nothing is there: give a folder that was published, a "
            "shared_prompt.safetensors, the name of a run, or owner/name of the hub"
        )
    if not here and not (is_hub_id(given) and not _COMMIT.fullmatch(given)):
        return override
    try:
        found = import_prompt(_file(place)) if here else pinned(given)
    except ModelError as error:
        raise RunError(f"{_KEY} is {given}: {error}") from error
    echo(f"{_KEY} is {given}: this run records {found}")
    return f"{_KEY}={found}"


def _is_run(given: str) -> bool:
    """Whether a run of this name is here: a folder of the same name is then not meant."""
    return (
        "/" not in given
        and not given.startswith((".", "~"))
        and RunFolder.named(given).path.is_dir()
    )


def _file(place: Path) -> Path:
    if not place.is_dir():
        return place
    if is_published(place):
        check_published(place)
    return place / PROMPT
