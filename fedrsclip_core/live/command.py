"""`fedrsclip watch`: look at a run until it ends, and leave it alone."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedrsclip_core import report
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.live.display import Echo, display
from fedrsclip_core.live.refresh import Refresher
from fedrsclip_core.live.run import COMPLETED, RunView, RunWatch, has_begun
from fedrsclip_core.live.target import find
from fedrsclip_core.live.words import ending, printable

_LOOK_SECONDS = 1.0
_BEGIN_SECONDS = 300.0
_INTERRUPTED = 130


def watch(arguments: Sequence[str], *, echo: Echo) -> int:
    """Show a run until it ends and return its status: 0 if it is completed.

    Parameters
    ----------
    arguments : Sequence[str]
        The name or folder of a run; by default the newest run of this machine.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    FedRSCLIPError
        If there is no such run.
    """
    if len(arguments) > 1:
        raise ConfigError("fedrsclip watch takes one run: its name or its folder")
    folder = find(arguments[0] if arguments else None)
    try:
        _wait_for(folder, echo)
        return _follow(folder, echo)
    except KeyboardInterrupt:
        echo(f"no longer watching; {folder.name} is left as it is")
        return _INTERRUPTED


def _wait_for(folder: Path, echo: Echo) -> None:
    """Wait for a run that is being started; it takes a while until it has a folder."""
    if has_begun(folder):
        return
    echo(f"there is no run in {folder}: waiting {_BEGIN_SECONDS:.0f} s for it to begin")
    deadline = time.monotonic() + _BEGIN_SECONDS
    while not has_begun(folder):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"there is no run in {folder}: give the name or folder of one, at the server, with "
                "its FEDRSCLIP_HOME"
            )
        time.sleep(_LOOK_SECONDS)


def _follow(folder: Path, echo: Echo) -> int:
    subject, refresher = RunWatch(folder), Refresher(folder, report.write_report)
    with display(echo) as shown:
        view = subject.look()
        while True:
            shown.show(view, refresher.note)
            if refresher.refresh(view.steps, unit="round", ended=view.ended):
                shown.show(view, refresher.note)
            if view.ended:
                break
            time.sleep(_LOOK_SECONDS)
            view = subject.look()
    for line in (*_closing(view), f"report: {refresher.note}"):
        echo(printable(line))
    return view.status


def _closing(view: RunView) -> Iterator[str]:
    if view.state == COMPLETED and view.results is not None:
        try:
            yield from ("", *report.final_table(view.results).splitlines(), "")
        except (LookupError, TypeError, ValueError):
            yield "results.json is damaged: it has no table"
    yield ending(view)
    yield f"folder: {view.folder}"
