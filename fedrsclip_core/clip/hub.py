"""A CLIP of the HuggingFace hub: from its cache, completed by a download where something lacks."""

import errno
from pathlib import Path

from fedrsclip_core.clip import preprocessing
from fedrsclip_core.clip.tokens import has_tokenizer
from fedrsclip_core.clip.weights import weight_files
from fedrsclip_core.errors import ModelError

_FILES = ["*.json", "merges.txt", "model*.safetensors"]
_CONFIG = "config.json"
_LEGACY_WEIGHTS = "pytorch_model*.bin"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def snapshot(hub_id: str, revision: str | None) -> Path:
    """Return the folder of a model in the cache; its name is the commit.

    A cache that lacks a file is completed online.

    Raises
    ------
    ModelError
        If a file is missing and cannot be had, saying which and why.
    """
    cached = _cached(hub_id, revision)
    if cached is not None and _missing(cached) is None:
        return cached
    try:
        downloaded = _download(hub_id, revision, _FILES)
        if not any(downloaded.glob("model*.safetensors")):
            downloaded = _download(hub_id, revision, [*_FILES, _LEGACY_WEIGHTS])
    # Whatever carries the files (HTTP, Xet) has errors of its own.
    except Exception as error:
        raise _unreachable(hub_id, revision, error) from error
    if missing := _missing(downloaded):
        # Without a connection what is there comes back as it is.
        raise _incomplete(hub_id, downloaded, missing)
    return downloaded


def _incomplete(hub_id: str, folder: Path, missing: str) -> ModelError:
    if missing == _CONFIG and not any(folder.glob("*.safetensors")):
        return ModelError(
            f"{hub_id} on the hub is no HuggingFace CLIPModel, it has no config.json: if it has "
            f"OpenCLIP's weights, `hf download {hub_id} --local-dir <folder>`, convert them with "
            "`fedrsclip model convert <folder>/<file> out=<clip>` and give model.path=<clip>"
        )
    return ModelError(
        f"model {hub_id} in the HuggingFace cache lacks {missing}, and the hub gave none: run once "
        f"while it can be reached or, if it has none, copy {folder}, add what is missing and give "
        "model.path that copy"
    )


def _cached(hub_id: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(hub_id, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError as error:
        # Files that no CLIP needs may be missing: what is there is looked at here.
        folder = getattr(error, "snapshot_path", "")
    except (OSError, ValueError):
        return None
    return Path(folder) if folder else None


def _download(hub_id: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))


def _missing(folder: Path) -> str | None:
    """Return what a CLIP's folder lacks, ``None`` if it is complete."""
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    if not any((folder / name).is_file() for name in preprocessing.FILES):
        return preprocessing.FILES[1]
    if not has_tokenizer(folder):
        return "tokenizer.json"
    try:
        weight_files(folder)
    except ModelError as error:
        return f"weights ({error})"
    return None


def _unreachable(hub_id: str, revision: str | None, error: Exception) -> ModelError:
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    which = f"model {hub_id}" if revision is None else f"revision {revision} of model {hub_id}"
    if isinstance(error, GatedRepoError):
        return ModelError(
            f"{which} is given to registered users only: ask for it on its page at the hub, then "
            "log in here with `hf auth login`"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"the hub has no {which}: correct model.revision, null takes the newest")
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"the hub shows no model {hub_id}: correct model.hub_id or, if it is private, log in "
            "with `hf auth login`"
        )
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in _NO_ROOM:
        return ModelError(
            f"{which} cannot be stored in the HuggingFace cache ({error}): make room, or set "
            "HF_HOME to a folder that can be written"
        )
    return ModelError(
        f"{which} is neither in the HuggingFace cache nor reachable on the hub: download it "
        "once while online, or give model.path a local folder"
    )
