"""What a run is waiting for: the seconds before its first round are many."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fedrsclip_core.runs.records import UnreadableError
from fedrsclip_core.runs.run_folder import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.status import Status


_SILENCE = 15.0


class Waiting:
    """A last line that says what is waited for, and that something lives.

    Where nothing can be a last line, as in a file, it is a line of its own after some silence.

    Parameters
    ----------
    say : Callable[[str], None]
        Prints a line.
    console : Console or None
        Where the last line stands, which need not be where lines go; ``None``: nowhere.
    clock : Callable[[], float]
        Seconds.
    """

    def __init__(
        self,
        say: "Callable[[str], None]",
        console: "Console | None",
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        self._say, self._console, self._clock = say, console, clock
        self._status: Status | None = None
        self._said, self._last_line = "", clock()

    @classmethod
    def on_terminal(cls, say: "Callable[[str], None]") -> Self:
        """Show it where a person sees it, if one does."""
        if not sys.stdout.isatty():
            return cls(say, None)
        from rich.console import Console

        return cls(say, Console())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ends()

    def waits_for(self, what: str, *, in_files: bool = True) -> None:
        """Say what is waited for from now on; ``in_files``: also where it would be a line."""
        text = f"waiting for {what}"
        if self._console is None:
            silence = self._clock() - self._last_line
            if in_files and text != self._said and silence >= _SILENCE:
                self._said = text
                self.echo(text)
        elif self._status is None:
            from rich.markup import escape

            self._status = self._console.status(escape(text), spinner_style="default")
            self._status.start()
        elif self._status.status != text:
            self._status.update(text)

    def echo(self, line: str) -> None:
        """Print a line above the last one."""
        if self._status is not None:
            self._status.stop()
        self._say(line)
        self._last_line = self._clock()
        if self._status is not None:
            self._status.start()

    def ends(self) -> None:
        """Take the last line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def awaited(follower: Follower, num_rounds: int, last_round: int | None, *, resumed: bool) -> str:
    """Say what a run that Flower has taken comes to next.

    Parameters
    ----------
    follower : Follower
        Reads its folder.
    num_rounds : int
        Rounds that it has.
    last_round : int or None
        Of which a line was printed.
    resumed : bool
        Whether an earlier attempt has written there.
    """
    if follower.has_results():
        return "Flower, which ends the run"
    if last_round is not None:
        return next_after(last_round, num_rounds)
    if resumed:
        return "Flower, which starts the server, Ray and the clients"
    if not follower.folder.has_begun():
        return "the server, which Flower starts"
    return "round 0" if _clients_are_there(follower) else "Ray and the clients"


def next_after(last_round: int, num_rounds: int) -> str:
    """Say what comes after a round."""
    return f"round {last_round + 1} of {num_rounds}" if last_round < num_rounds else "the results"


def _clients_are_there(follower: Follower) -> bool:
    try:
        return follower.folder.digests() is not None
    except UnreadableError:
        return False
