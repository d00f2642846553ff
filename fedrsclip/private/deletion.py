"""Delete what a client keeps of a run: files of names that clients write, and nothing else."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fedrsclip.private.kept import Kept
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.units import counted, size


def what_is_deleted(kept: Kept) -> str:
    """Say it in words."""
    files = list(_files(kept))
    said = f"{counted(len(files), 'private file')} ({size(sum(f.stat().st_size for f in files))})"
    return said + (" and the details of the last evaluation" if _evaluation(kept).is_file() else "")


def delete(kept: Kept) -> list[str]:
    """Delete a client's private files of a run; return the names of what else lies there.

    Raises
    ------
    PrivateStoreError
        If the client or, in a simulation, the run is at work.
    OSError
        If a file cannot be deleted.
    """
    if lock.is_held(RunFolder.named(kept.run).path):
        raise PrivateStoreError(f"the run {kept.run} is running: stop it first")
    try:
        held = lock.hold(kept.folder)
    except BlockingIOError:
        raise PrivateStoreError(
            f"{kept.folder} is in use: {kept.client} works on it just now; try again"
        ) from None
    with held:
        for file in _files(kept):
            file.unlink(missing_ok=True)
        _evaluation(kept).unlink(missing_ok=True)
        left = sorted(path.name for path in kept.folder.iterdir() if path.name != lock.FILE)
        if not left:
            (kept.folder / lock.FILE).unlink()
    with suppress(OSError):  # other clients, runs or files
        for folder in (kept.folder, kept.folder.parent, _evaluation(kept).parent):
            folder.rmdir()
    return left


def _files(kept: Kept) -> Iterator[Path]:
    """Yield what clients write: rounds, classifier, files set aside and unfinished ones."""
    yield from sorted(kept.folder.glob("round-*.safetensors"))
    yield from sorted(kept.folder.glob("round-*.safetensors.aside-*"))
    yield from sorted(kept.folder.glob(".*.safetensors.*.tmp"))
    if kept.classifier.is_file():
        yield kept.classifier


def _evaluation(kept: Kept) -> Path:
    return paths.evaluations_dir(kept.federation, kept.run) / f"{kept.client}.json"
