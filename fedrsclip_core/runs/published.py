"""What `fedrsclip publish` writes, read back: from a folder, or from the HuggingFace hub.

Two small files are read, and nothing in them is evaluated: the shared prompt, which is sealed, and
the description beside it, which must say the same.
"""

import errno
import json
import re
from pathlib import Path
from typing import Any

from fedrsclip_core.config.texts import is_plain
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import sha256_of_file
from fedrsclip_core.runs.shared_prompt import (
    NoSharedPromptError,
    SharedPrompt,
    read_shared_prompt,
)

FORMAT = "fedrsclip-classifier-1"
CONFIG, PROMPT = "config.json", "shared_prompt.safetensors"

_HUB_ID = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w./-]*))?"
)
_SECONDS = 5.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def description(prompt: SharedPrompt, sha256: str) -> dict[str, Any]:
    """Return what ``config.json`` says of a shared prompt.

    Parameters
    ----------
    prompt : SharedPrompt
        What is published.
    sha256 : str
        Of its file.
    """
    reading = prompt.reading
    return {
        "format": FORMAT,
        "library_name": "fedrsclip",
        "sha256": sha256,
        "clip": {
            "model": prompt.model,
            "hub_id": prompt.hub_id or None,
            "revision": prompt.revision or None,
            "digest": prompt.clip,
            "dtype": prompt.dtype,
        },
        "class_names": list(prompt.class_names),
        "words": list(prompt.words),
        "templates": list(prompt.templates),
        "images": {
            "bands": list(reading.bands),
            "stretch": list(reading.stretch),
            "nodata": reading.nodata,
        },
        "calibrated_factor": prompt.calibrated_factor,
        "tensors": {name: list(tensor.shape) for name, tensor in prompt.shared.items()},
        "run": prompt.run,
        "round": prompt.server_round,
    }


def is_hub_id(source: str) -> bool:
    """Whether a text has the form ``owner/name`` or ``owner/name@revision``."""
    return _HUB_ID.fullmatch(source) is not None


def is_published(folder: Path) -> bool:
    """Whether a folder holds what was published."""
    return (folder / CONFIG).is_file() and (folder / PROMPT).is_file()


def published_prompt(source: str | Path) -> Path | None:
    """Return the checked file of a published prompt.

    Parameters
    ----------
    source : str or Path
        A folder, or ``owner/name`` or ``owner/name@revision`` of the hub where nothing of that
        path is here: what is newest there or, if it cannot be asked, what its cache has.

    Returns
    -------
    Path or None
        ``None`` if it is neither.

    Raises
    ------
    ModelError
        If the hub does not give it, or what it gives is damaged or something else.
    """
    place = paths.place(source, "the published classifier")
    if place.exists():
        if not is_published(place):
            return None
        check_published(place)
        return place / PROMPT
    if not isinstance(source, str) or not is_hub_id(source):
        return None
    folder = fetch(source)
    check_published(folder)
    return folder / PROMPT


def check_published(folder: Path) -> SharedPrompt:
    """Return what a folder holds whose two files say the same.

    Raises
    ------
    ModelError
        If they do not, or one is damaged or something else.
    """
    try:
        said = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{folder / CONFIG} is damaged ({type(error).__name__}): fetch it again"
        ) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        shown = said.get("format") if isinstance(said, dict) else None
        raise ModelError(
            f"{folder} is no classifier that this version of `fedrsclip publish` writes: its "
            f"{CONFIG} has the format {shown!r}, expected {FORMAT!r}"
        )
    file = folder / PROMPT
    prompt = read_prompt(file)
    found = description(prompt, sha256_of_file(file))
    # What a later version adds to the description is not known of here, and the reverse.
    other = [key for key, value in found.items() if key in said and said[key] != value]
    if other or "sha256" not in said:
        raise ModelError(
            f"{CONFIG} and {PROMPT} in {folder} do not agree on {', '.join(other) or 'sha256'}: "
            "one of them was changed, fetch both again"
        )
    return prompt


def hub_prompt(source: str) -> SharedPrompt:
    """Return what the hub, or without it its cache, has under ``owner/name[@revision]``.

    Raises
    ------
    ModelError
        As :func:`published_prompt`.
    """
    return check_published(fetch(source))


def read_prompt(file: Path) -> SharedPrompt:
    """Return a shared prompt that a stranger may have written.

    Raises
    ------
    ModelError
        If it is none, damaged, or has names that cannot be shown.
    """
    try:
        prompt = read_shared_prompt(file)
    except FileNotFoundError:
        raise ModelError(f"there is no shared prompt at {file}") from None
    except NoSharedPromptError as error:
        raise ModelError(f"{file} {error}") from error
    # A stranger wrote them, and they are shown on terminals and in pages.
    names = (prompt.run, prompt.model, prompt.hub_id, prompt.revision)
    if not all(map(is_plain, (*names, *prompt.class_names, *prompt.words, *prompt.templates))):
        raise ModelError(f"{file} has names with control characters or invisible ones: refused")
    return prompt


def pinned(source: str) -> str:
    """Return ``owner/name@commit`` of what the hub, or without it its cache, has under an id.

    Raises
    ------
    ModelError
        As :func:`published_prompt`.
    """
    folder = fetch(source)
    check_published(folder)
    return f"{_parts(source)[0]}@{folder.name}"


def fetch(source: str) -> Path:
    """Return the folder in the hub's cache with both files of one commit; its name is the commit.

    Raises
    ------
    ModelError
        If they cannot be had.
    """
    from huggingface_hub import hf_hub_download

    hub_id, revision = _parts(source)
    try:
        cached = not _answers(hub_id, revision)
        config = hf_hub_download(hub_id, CONFIG, revision=revision, local_files_only=cached)
        commit = Path(config).parent.name
        hf_hub_download(hub_id, PROMPT, revision=commit, local_files_only=cached)
    # Whatever carries the files (HTTP, Xet) has errors of its own.
    except Exception as error:
        raise _unreachable(hub_id, revision, error) from error
    return Path(config).parent


def _answers(hub_id: str, revision: str | None) -> bool:
    """Whether the hub can be asked; a download would try for half a minute to find that out."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().model_info(hub_id, revision=revision, timeout=_SECONDS)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception:  # Its versions differ in the network library whose errors come through.
        return False
    return True


def _parts(source: str) -> tuple[str, str | None]:
    found = _HUB_ID.fullmatch(source)
    if found is None:
        raise ModelError(f"{source!r} is no name on the hub: give owner/name or owner/name@commit")
    return found["id"], found["revision"]


def _unreachable(hub_id: str, revision: str | None, error: Exception) -> ModelError:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    which = hub_id if revision is None else f"{hub_id}@{revision}"
    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{which} is given to registered users only: ask for it on its page at the hub, then "
            "log in here with `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"the hub has {hub_id}, but no revision {revision} of it")
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"the hub shows no model {hub_id}, and there is no file, folder or run of that name "
            "here: correct it or, if it is private, log in with `hf auth login`"
        )
    unknown = isinstance(error, LocalEntryNotFoundError)
    if isinstance(error, EntryNotFoundError) and not unknown:
        return ModelError(
            f"{which} on the hub was not written by `fedrsclip publish`: it lacks {CONFIG} or "
            f"{PROMPT}"
        )
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in _NO_ROOM:
        return ModelError(
            f"{which} cannot be stored in the HuggingFace cache ({error}): make room, or set "
            "HF_HOME to a folder that can be written"
        )
    return ModelError(
        f"{which} is neither a file, folder or run here nor in the HuggingFace cache, and the hub "
        f"cannot be asked{'' if unknown else f' ({type(error).__name__})'}: `hf download {hub_id} "
        "--local-dir <folder>` where it can be reached, and give that folder"
    )
