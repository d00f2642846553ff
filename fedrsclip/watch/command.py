"""`fedrsclip watch`: look at a run or a benchmark until it ends, and leave it alone."""

import time
from collections.abc import Sequence
from pathlib import Path

from fedrsclip import report
from fedrsclip.watch.display import Echo, display
from fedrsclip.watch.refresh import Refresher
from fedrsclip.watch.subject import BenchSubject, RunSubject
from fedrsclip.watch.target import find, is_bench, is_there
from fedrsclip.watch.words import printable
from fedrsclip_core.errors import ConfigError

_LOOK_SECONDS = 1.0
_BEGIN_SECONDS = 300.0
_INTERRUPTED = 130


def watch(arguments: Sequence[str], *, echo: Echo) -> int:
    """Show a run or a benchmark until it ends and return its status: 0 if it is completed.

    Parameters
    ----------
    arguments : Sequence[str]
        The name or folder of a run or benchmark; by default the newest run of this machine.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    FedRSCLIPError
        If there is neither.
    """
    if len(arguments) > 1:
        raise ConfigError("fedrsclip watch takes one run or benchmark: its name or its folder")
    folder = find(arguments[0] if arguments else None)
    try:
        _wait_for(folder, echo)
        return _follow(folder, echo)
    except KeyboardInterrupt:
        echo(f"no longer watching; {folder.name} is left as it is")
        return _INTERRUPTED


def _wait_for(folder: Path, echo: Echo) -> None:
    """Wait for a run that is being started; it takes a while until it has a folder."""
    if is_there(folder):
        return
    echo(f"there is no run in {folder} yet: waiting {_BEGIN_SECONDS:.0f} s for it to begin")
    deadline = time.monotonic() + _BEGIN_SECONDS
    while not is_there(folder):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"there is no run in {folder}: give the name or folder of one, at the server, with "
                "its FEDRSCLIP_HOME"
            )
        time.sleep(_LOOK_SECONDS)


def _follow(folder: Path, echo: Echo) -> int:
    subject = BenchSubject(folder) if is_bench(folder) else RunSubject(folder)
    refresher = Refresher(folder, subject.unit, report.write_report)
    with display(echo) as shown:
        while True:
            shown.show(subject, refresher.note)
            if refresher.refresh(subject.view.steps, ended=subject.view.ended):
                shown.show(subject, refresher.note)
            if subject.view.ended:
                break
            time.sleep(_LOOK_SECONDS)
            subject.look()
    for line in (*subject.closing(), *([f"report: {refresher.note}"] if refresher.note else [])):
        echo(printable(line))
    return subject.view.status
