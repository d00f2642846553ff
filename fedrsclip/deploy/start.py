"""`fedrsclip deploy start`: what runs at the server, in one command."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip.site.supervisor import given_program, keep
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

Echo = Callable[[str], None]

_USAGE = "deploy start [needs=FILE_OR_PROGRAM ...] NAME=PROGRAM [NAME=PROGRAM ...]"
_NEEDS = "needs="
_BETWEEN_LOOKS = 2.0


def start(arguments: Sequence[str], echo: Echo) -> int:
    """Wait for what is missing, saying so, and keep the server's programs running.

    Raises
    ------
    ConfigError
        If the arguments are no programs.
    """
    needed = [one.removeprefix(_NEEDS) for one in arguments if one.startswith(_NEEDS)]
    programs = [given_program(one, _USAGE) for one in arguments if not one.startswith(_NEEDS)]
    if not programs:
        raise ConfigError(f"give what to keep running, as in {_USAGE}")
    wait_for(needed, echo)
    keep(programs, logs=paths.logs_dir() / "programs", echo=echo)
    return 0


def wait_for(
    needed: Sequence[str], echo: Echo, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return when all that is needed is there; say what is not, once for each state.

    Parameters
    ----------
    needed : Sequence[str]
        Paths of files that this user must be able to read, and names of programs.
    echo : Callable[[str], None]
        Is told what is waited for.
    sleep : Callable[[float], None]
        Waits some seconds.
    """
    said: list[str] = []
    while missing := [text for text in map(_missing, needed) if text]:
        for text in missing:
            if text not in said:
                echo(f"waiting for {text}")
        said = missing
        sleep(_BETWEEN_LOOKS)


def _missing(needed: str) -> str:
    if os.sep not in needed:
        there = shutil.which(needed) is not None
        return "" if there else f"the program {needed}: install it, or put it on the PATH"
    if os.access(needed, os.R_OK):
        return ""
    if Path(needed).exists():
        return f"{needed}: this user may not read it"
    return (
        f"{needed}: make it by `fedrsclip deploy certs` where this folder was rendered, and send it"
    )
