"""`fedrsclip site`: `start` runs what runs at a site, `log` shows what it answered."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip.deploy.clock import NoAnswerError, inspect_clock
from fedrsclip.site.supervisor import given_program, keep
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs import paths

_FOLDERS = ("FEDRSCLIP_DATA_PATH", "FEDRSCLIP_MODEL_PATH")
_BETWEEN_TRIES, _TRIES_PER_LINE = 3.0, 20
_USAGE = "site start NAME=PROGRAM [NAME=PROGRAM ...]"
_LOG_USAGE = "site log"


def site(arguments: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Do what runs at a site; see the command's help.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    if list(arguments) == ["log"]:
        from fedrsclip.site.log import to_terminal

        return to_terminal(echo)
    if list(arguments[:1]) != ["start"]:
        raise ConfigError(f"give what to do, as in {_USAGE}, or {_LOG_USAGE}")
    programs = [given_program(argument, _USAGE) for argument in arguments[1:]]
    if not programs:
        raise ConfigError(f"give what to keep running, as in {_USAGE}")
    check_folders(os.environ.get)
    wait_for_server(echo)
    keep(programs, logs=paths.logs_dir() / "programs", echo=echo)
    return 0


def check_folders(value: Callable[[str], str | None]) -> None:
    """Refuse folders of `site.env` that are none; whether one is needed the caller has checked.

    Raises
    ------
    ConfigError
        Naming the variable.
    """
    for name in _FOLDERS:
        folder = value(name)
        if folder and not Path(folder).is_dir():
            raise ConfigError(f"{name} is {folder}, which is no folder: correct it in site.env")


def wait_for_server(
    echo: Callable[[str], None],
    ask: Callable[[], str] = inspect_clock,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the server answers, saying now and then what is waited for; then tell its clock.

    A clock that is wrong is said and not waited for: the SuperNode tries again by itself.
    """
    tries, said = 0, ""
    while True:
        try:
            echo(f"this machine's clock is {ask()}")
        except NoAnswerError as error:
            if error.why != said or tries % _TRIES_PER_LINE == 0:
                echo(f"waiting for the server {error.server}: {error.why}; {error.advice}")
            tries, said = tries + 1, error.why
            sleep(_BETWEEN_TRIES)
            continue
        except RunError as error:
            echo(str(error))
        return
