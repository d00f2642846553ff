"""Find what clients of this machine have kept: ``<home>/private/<federation>/<run>/<client>/``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client_app.private_store import CLASSIFIER, rounds_in
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.runs import paths


@dataclass(frozen=True)
class Kept:
    """One client's private files of one run.

    Attributes
    ----------
    federation, run, client : str
        Whose they are.
    folder : Path
        Where they lie.
    """

    federation: str
    run: str
    client: str
    folder: Path

    @property
    def rounds(self) -> list[int]:
        """The rounds that are kept."""
        return list(rounds_in(self.folder))

    @property
    def classifier(self) -> Path:
        """What the last evaluation has classified with; it need not be there."""
        return self.folder / CLASSIFIER

    @property
    def files(self) -> list[Path]:
        """The files that are kept."""
        last = [self.classifier] if self.classifier.is_file() else []
        return [*rounds_in(self.folder).values(), *last]


def all_kept() -> Iterator[Kept]:
    """Yield what there is, by federation, run and client."""
    for folder in sorted(paths.private_root().glob("*/*/*")):
        kept = Kept(folder.parts[-3], folder.parts[-2], folder.parts[-1], folder)
        if kept.files:
            yield kept


def find_kept(run: str, client: str | None, federation: str | None) -> Kept:
    """Return the one that is meant.

    Parameters
    ----------
    run : str
        The run's name.
    client, federation : str or None
        By default the only one that there is.

    Raises
    ------
    PrivateStoreError
        If there is none, or several.
    """
    of_run = [kept for kept in all_kept() if kept.run == run]
    found = [
        kept
        for kept in of_run
        if client in (None, kept.client) and federation in (None, kept.federation)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        clients = sorted({kept.client for kept in found})
        federations = sorted({kept.federation for kept in found})
        which = (
            f"several clients took part in run {run}: choose by --client {' | '.join(clients)}"
            if len(clients) > 1
            else f"several federations have a run {run}: choose by --federation "
            f"{' | '.join(federations)}"
        )
        raise PrivateStoreError(which)
    others = sorted({kept.client for kept in of_run})
    if others:
        raise PrivateStoreError(
            f"run {run} has no private files of client {client or 'any'}"
            + (f" in federation {federation}" if federation else "")
            + f" here: there are those of {', '.join(others)}"
        )
    raise PrivateStoreError(
        f"no client of this machine has private files of a run {run!r} in "
        f"{paths.private_root()}: look where the client runs, with its FEDRSCLIP_HOME "
        "(`fedrsclip private list`)"
    )
