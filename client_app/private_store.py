"""The private prompt on the client's own disk: one file per kept round, whole or absent.

``<home>/private/<federation>/<run>/<client>/round-000007.safetensors``, with what was shared when
it was trained beside it, and ``classifier.safetensors``, with which the last evaluation has
classified. A file is refused, by name, if it is damaged or belongs to something else; nothing is
overwritten or deleted that is not this client's own.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client_app.personal_classifier import (
    DESCRIPTION,
    PersonalClassifier,
    description_of,
    read_personal,
    tensors_beside,
    write_personal,
)
from client_app.private_format import PrivateFormat, own_tensors, state_of, tensors_of
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.sealed import DamagedFileError, read_sealed, write_sealed

FORMAT = "1"
KEPT_ROUNDS = 3
CLASSIFIER = "classifier.safetensors"
_FILE = re.compile(r"round-(\d{6})\.safetensors")
_ADDED = {"rank": "0", "offset_classes": "0", "dim": "0"}
"""Metadata that files of format 1 did not always have, and what its absence means."""


class PrivateStore:
    """One client's private prompts of one run; use it inside :func:`open_store`.

    Parameters
    ----------
    folder : Path
        The client's folder.
    run_name, client_name : str
        Written into each file and expected there.
    expected : PrivateFormat
        What the files must fit.
    log : Callable[[str], None]
        Takes a sentence about each file that is removed, set aside or left lying.
    earlier_clip : Callable[[], str]
        Returns the fingerprint that a version before 0.2 gave to the same CLIP.
    set_aside : bool
        Rename a file that is damaged or foreign and go on without it (``run.private_aside``).
    """

    def __init__(
        self,
        folder: Path,
        run_name: str,
        client_name: str,
        expected: PrivateFormat,
        log: Callable[[str], None],
        *,
        earlier_clip: Callable[[], str] = lambda: "",
        set_aside: bool = False,
    ) -> None:
        self._folder = folder
        self._owner = {"run": run_name, "client": client_name}
        self._expected = expected
        self._log = log
        self._earlier_clip = earlier_clip
        self._set_aside = set_aside

    def load(self, before_round: int) -> ClientState | None:
        """Return the newest state of a round ``<= before_round``; ``None``: a new start.

        Raises
        ------
        PrivateStoreError
            If that file is damaged or foreign and may not be set aside.
        """
        for number in reversed(self._rounds()):
            if number > before_round:
                continue
            try:
                return self._read(number)
            except PrivateStoreError as error:
                if not self._set_aside:
                    raise
                self._put_aside(number, error)
        return None

    def load_start(self) -> ClientState | None:
        """Return the newest state whatever its round: another run's start.

        Fusion weights of another kind are left out.

        Raises
        ------
        PrivateStoreError
            If that file is damaged or foreign.
        """
        rounds = self._rounds()
        return self._read(rounds[-1], any_weight=True) if rounds else None

    def save(
        self, state: ClientState, server_round: int, beside: PersonalClassifier | None = None
    ) -> None:
        """Write the state of ``server_round``, then drop what can no longer be needed.

        That is the rounds before the last three, those after ``server_round`` and the last
        evaluation's classifier, which a run left behind that went back to a checkpoint.

        Parameters
        ----------
        state : ClientState
            The private side.
        server_round : int
            In which it was trained.
        beside : PersonalClassifier or None
            The same state with what it classifies with.

        Raises
        ------
        PrivateStoreError
            If a file of this round exists and is damaged or foreign.
        OSError
            If the disk is full; the previous files are then intact.
        """
        if server_round in self._rounds():
            self._read(server_round)
        described = self._metadata(server_round)
        # Files without anything added stay what they always were.
        metadata = {n: v for n, v in described.items() if _ADDED.get(n) != v}
        tensors = tensors_of(state)
        if beside is not None:
            tensors = {**tensors, **tensors_beside(beside)}
            metadata |= {DESCRIPTION: description_of(beside)}
        write_sealed(self._path(server_round), tensors, metadata, mode=0o600)
        rounds = self._rounds()
        kept = [number for number in rounds if number <= server_round][-KEPT_ROUNDS:]
        for number in rounds:
            if number not in kept:
                self._drop(number)
        try:
            if self._own_classifier():
                (self._folder / CLASSIFIER).unlink()
        except PrivateStoreError as error:
            self._log(f"{CLASSIFIER} is no longer needed but left where it is: {error}")

    def keep(self, classifier: PersonalClassifier) -> None:
        """Write what the last evaluation has classified with.

        Raises
        ------
        PrivateStoreError
            If there is such a file, damaged or foreign.
        OSError
            If the disk is full; the previous file is then intact.
        """
        self._own_classifier()
        write_personal(self._folder / CLASSIFIER, classifier)

    def _own_classifier(self) -> bool:
        """Whether there is a classifier; raises PrivateStoreError if it is not this client's."""
        path = self._folder / CLASSIFIER
        if not path.exists():
            return False
        found = read_personal(path)
        if (found.prompt.run, found.client) != (self._owner["run"], self._owner["client"]):
            raise PrivateStoreError(
                f"{path} is foreign: it is of client {found.client[:64]} in run "
                f"{found.prompt.run[:64]}; move it away"
            )
        return True

    def _drop(self, number: int) -> None:
        path = self._path(number)
        try:
            self._read(number)
        except PrivateStoreError as error:
            self._log(f"{path.name} is no longer needed but left where it is: {error}")
            return
        path.unlink(missing_ok=True)

    def _put_aside(self, number: int, error: PrivateStoreError) -> None:
        path = self._path(number)
        names = (f"{path.name}.aside-{count}" for count in itertools.count(1))
        aside = next(place for name in names if not (place := path.with_name(name)).exists())
        path.rename(aside)
        self._log(f"{error}; it is kept as {aside.name}")

    def _path(self, number: int) -> Path:
        return self._folder / f"round-{number:06d}.safetensors"

    def _rounds(self) -> list[int]:
        return list(rounds_in(self._folder))

    def _metadata(self, server_round: int) -> dict[str, str]:
        described = {name: str(value) for name, value in asdict(self._expected).items()}
        return {"format": FORMAT, **self._owner, "round": str(server_round), **described}

    def _read(self, number: int, *, any_weight: bool = False) -> ClientState:
        path = self._path(number)
        try:
            found, tensors = read_sealed(path)
        except DamagedFileError as error:
            raise _refused(path, str(error)) from error
        metadata, expected = _ADDED | found, self._metadata(number)
        clip = metadata.get("clip")
        if clip != expected["clip"] and clip == self._earlier_clip():
            metadata |= {"clip": expected["clip"]}
        described = dict(expected)
        if any_weight:
            described |= {name: metadata.get(name, "0") for name in ("fusion", "gate_size")}
        for name, value in described.items():
            if metadata.get(name) != value:
                other = metadata.get(name, "missing")
                raise _refused(
                    path, f"it is foreign: its {name} is {other[:64]}, expected {value[:64]}"
                )
        gate_size = int(described["gate_size"])
        own = own_tensors(tensors)
        state = _state(path, own, replace(self._expected, gate_size=gate_size))
        return state if described == expected else replace(state, weight=None)


@contextmanager
def open_store(
    federation: str,
    run_name: str,
    client_name: str,
    expected: PrivateFormat,
    log: Callable[[str], None],
    *,
    earlier_clip: Callable[[], str] = lambda: "",
    set_aside: bool = False,
) -> Iterator[PrivateStore]:
    """Open and lock the store of one client in one run.

    Raises
    ------
    PrivateStoreError
        If another process holds it.
    """
    folder = paths.private_dir(federation, run_name, client_name)
    _make_private(folder)
    try:
        held = lock.hold(folder)
    except BlockingIOError:
        raise PrivateStoreError(
            f"{folder} is in use by another process: two clients have the name "
            f"{client_name!r}; give each its own client-name or partition-id"
        ) from None
    with held:
        # The lock is ours, so a temporary file is of a process that was killed.
        for leftover in folder.glob(".*.safetensors.*.tmp"):
            leftover.unlink(missing_ok=True)
        yield PrivateStore(
            folder,
            run_name,
            client_name,
            expected,
            log,
            earlier_clip=earlier_clip,
            set_aside=set_aside,
        )


def start_from(
    federation: str,
    run_name: str,
    client_name: str,
    expected: PrivateFormat,
    earlier_clip: Callable[[], str] = lambda: "",
) -> ClientState:
    """Return the newest state of another run, for ``run.private_init_from``.

    Raises
    ------
    PrivateStoreError
        If that run left none here, or one that is damaged or foreign.
    """
    folder = paths.private_dir(federation, run_name, client_name)
    store = PrivateStore(
        folder, run_name, client_name, expected, lambda _: None, earlier_clip=earlier_clip
    )
    state = store.load_start()
    if state is None:
        raise PrivateStoreError(
            f"run.private_init_from is {run_name} but {folder} holds no private prompt: this "
            "client took no part in that run, or had another name"
        )
    return state


def newest(folder: Path) -> PersonalClassifier:
    """Return what a client classifies with: as the last evaluation did, or as after its last round.

    Raises
    ------
    PrivateStoreError
        If the folder holds none, or one that is damaged or of an earlier version.
    """
    if (folder / CLASSIFIER).is_file():
        return read_personal(folder / CLASSIFIER)
    files = rounds_in(folder)
    if not files:
        raise PrivateStoreError(f"{folder} holds no private prompt")
    return read_personal(files[max(files)])


def rounds_in(folder: Path) -> dict[int, Path]:
    """Return a client's files by their rounds, in ascending order."""
    if not folder.is_dir():
        return {}
    matches = ((_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def _make_private(folder: Path) -> None:
    """Create the folder and its parents below ``private``, for the owner only."""
    if folder.is_dir():
        return
    root = paths.home()
    for path in [*reversed(folder.parents), folder]:
        if path.is_relative_to(root) and path != root:
            path.mkdir(mode=0o700, exist_ok=True)
        else:
            path.mkdir(exist_ok=True)


def _state(
    path: Path, tensors: Mapping[str, NDArray[np.float32]], expected: PrivateFormat
) -> ClientState:
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected.shapes or any(t.dtype != np.float32 for t in tensors.values()):
        raise _refused(path, f"it holds {found}, expected float32 {expected.shapes}")
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise _refused(path, "it holds NaN or infinity")
    return state_of(tensors)


def _refused(path: Path, why: str) -> PrivateStoreError:
    return PrivateStoreError(
        f"private file {path} is refused: {why}; move it away, or let run.private_aside=true set "
        "it aside: the newest older round is then used, or a new start"
    )
