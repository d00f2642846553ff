"""Flower's SuperNode for a site: it waits for nothing that cannot come, and comes back quickly.

- Its memory answers the message of a process that died (:mod:`fedrsclip.site.node_state`).
- If nothing moves for too long all the same, or its heartbeats have stopped, it ends itself, and
  whatever keeps it starts it again.
- It says why the SuperLink does not take its key, and tries again until it does.
- When it starts again after it was killed, the SuperLink still holds the killed one to be
  connected, for up to a minute, and refuses it. So it first reports that one as gone. The server
  then knows at once, too, that what it has sent there is lost, and does not wait until the round's
  end.

``fedrsclip-supernode`` takes the options of ``flower-supernode``; ``FLWR_HOME`` must be its own.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

from fedrsclip.site.flower_internals import ObjectStore, become_supernode
from fedrsclip.site.node_state import SiteState
from fedrsclip_core.runs.fileio import write_json
from fedrsclip_core.runs.lock import hold

_SILENCE_SECONDS = 600.0
"""The SuperNode asks every 3 seconds. One request may take long: a large part of a message."""
_HEARTBEAT_SECONDS = 150.0
"""It sends one every 20 seconds; after 60 without one the SuperLink holds it to be gone."""
_TURN_SECONDS = 5.0
_PATIENCE = 20.0
"""Seconds between asking this process to end and ending it."""
_OFFLINE_SECONDS = 1.5
"""The server looks for replies every 0.5 s and must see that the killed SuperNode is gone, but the
round after that must not pass without its successor."""
_BETWEEN_TRIES, _TRIES_PER_LINE = 3.0, 20
_REFUSED = (
    "waiting to be registered: the server does not know this site's key; ask its administrator to "
    "run register.sh (or the key counts as connected already: for a minute after this machine "
    "crashed, or because a second one uses it)"
)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Pulse:
    """What has to happen now and then, and for how many turns of the watch it has not.

    Counted in turns, not by a clock: a machine that was suspended has not been silent.

    Parameters
    ----------
    what : str
        Says what has not happened.
    seconds : float
        The longest time without it.
    """

    def __init__(self, what: str, seconds: float) -> None:
        self._what, self._seconds = what, seconds
        self._turns = 0

    def beat(self) -> None:
        """Note that it has happened."""
        self._turns = 0

    def missed(self) -> str | None:
        """Count a turn; return what is wrong if there were too many."""
        self._turns += 1
        seconds = self._turns * _TURN_SECONDS
        return f"{self._what} for {seconds:.0f} s" if seconds > self._seconds else None


def watch(
    look: Callable[[], str | None],
    end: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Look again and again, and end the process when something is wrong."""
    while (wrong := look()) is None:
        sleep(_TURN_SECONDS)
    end(wrong)


def end_this_process(why: str, *, patience: float = _PATIENCE) -> None:
    """End as at SIGTERM, so that the SuperLink is told; if that does not work, at once."""
    print(f"the SuperNode ends itself to be started again: {why}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os._exit(1)


class Predecessor:
    """The SuperNode that ran here before, which may have been killed.

    Its node id lies in a file. Only on the machine where that was written, and since it was booted,
    may a SuperNode be reported as gone: a copy of the folder elsewhere may not report the original.

    Parameters
    ----------
    folder : Path
        The SuperNode's own, held by this process.
    boot : str or None
        Names this machine since it was booted; ``None``: nobody knows.
    """

    def __init__(self, folder: Path, boot: str | None) -> None:
        self._file, self._boot = folder / "connected.json", boot

    def report(
        self, deactivate: Callable[[int], bool], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Report it as gone; if it counted as connected, wait until the server has seen that."""
        node_id = self._read()
        if node_id is not None and deactivate(node_id):
            print("the SuperNode before this one was killed: reported as gone", file=sys.stderr)
            sleep(_OFFLINE_SECONDS)

    def note(self, node_id: int) -> None:
        """Leave a note for the next one; without it that one may be refused for a minute."""
        with suppress(OSError):
            write_json(self._file, {"node_id": node_id, "boot": self._boot}, mode=0o600)

    def _read(self) -> int | None:
        try:
            note = json.loads(self._file.read_bytes())
            same = self._boot is not None and note["boot"] == self._boot
            return int(note["node_id"]) if same else None
        except (OSError, ValueError, LookupError, TypeError):
            return None


class Refusal:
    """Says now and then that the SuperLink does not take this site's key, and waits.

    Flower says neither which of the reasons it is, nor does it try again.
    """

    def __init__(
        self,
        echo: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._echo, self._sleep = echo, sleep
        self._times = 0

    def __call__(self) -> None:
        """Wait before the next try."""
        if self._times % _TRIES_PER_LINE == 0:
            self._echo(_REFUSED)
        self._times += 1
        self._sleep(_BETWEEN_TRIES)


def boot_id() -> str | None:
    """Return what Linux calls this machine since it was booted."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return None


def main() -> None:
    """Run ``flower-supernode`` as a site needs it."""
    with suppress(OSError):  # for ps and top, which cut the program's own name to fedrsclip-super
        Path("/proc/self/comm").write_text("flower-supernode")
    home = Path(os.environ.get("FLWR_HOME", "~/.flwr")).expanduser()
    home.mkdir(parents=True, exist_ok=True)
    try:
        lock = hold(home)
    except BlockingIOError:
        sys.exit(f"a SuperNode is running in FLWR_HOME={home}: stop it, or give each its own")
    with lock:
        predecessor = Predecessor(home, boot_id())
        moves = Pulse("nothing has moved", _SILENCE_SECONDS)
        beats = Pulse("no heartbeat was sent to the SuperLink", _HEARTBEAT_SECONDS)
        pulses, memories = [moves], []

        def new_state(store: ObjectStore) -> SiteState:
            memories.append(SiteState(store))
            return memories[-1]

        def connected(node_id: int) -> None:
            predecessor.note(node_id)
            pulses.append(beats)

        def look() -> str | None:
            if any(memory.working for memory in memories):
                moves.beat()
            return next(filter(None, [pulse.missed() for pulse in pulses]), None)

        Thread(target=watch, args=(look, end_this_process), daemon=True).start()
        become_supernode(
            new_state,
            before=lambda connection: predecessor.report(connection.deactivate),
            refused=Refusal(),
            connected=connected,
            moved=moves.beat,
            beat=beats.beat,
        )
