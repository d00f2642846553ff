"""A full disk at the server: wait for room, so that a run of weeks does not end there."""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from server_app.exchange import Exchange

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOOK_EVERY, _TELL_EVERY = 2.0, 60.0


@dataclass(frozen=True)
class Room:
    """Writes, and waits where a disk is full.

    Attributes
    ----------
    exchange : Exchange
        Its clock and its pauses.
    limit : float
        Seconds to wait for room; 0 gives up at once.
    echo : Callable[[str], None]
        Is told that the disk is full, and when it continues.
    """

    exchange: Exchange
    limit: float
    echo: Callable[[str], None]

    def write(self, action: Callable[[], None]) -> None:
        """Carry out ``action``, again and again until there is room.

        Parameters
        ----------
        action : Callable[[], None]
            Writes something whole or not at all, and may be repeated.

        Raises
        ------
        OSError
            If there was no room within the limit, or something else is wrong.
        """
        start = self.exchange.now()
        told = start - _TELL_EVERY
        while True:
            try:
                action()
                break
            except OSError as error:
                now = self.exchange.now()
                left = self.limit - (now - start)
                if error.errno not in _FULL or left <= 0:
                    raise
                if now - told >= _TELL_EVERY:
                    told = now
                    self.echo(
                        f"the disk of the run's folder is full ({error.strerror}): waiting for "
                        f"room, {left:.0f} s left"
                    )
                self.exchange.pause(min(_LOOK_EVERY, left))
        if told >= start:
            self.echo(f"there is room again after {self.exchange.now() - start:.0f} s")
