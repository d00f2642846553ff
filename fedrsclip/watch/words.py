"""Words that the picture and the lines of text have in common."""

from fedrsclip.watch.bench import BenchView
from fedrsclip.watch.run import RunView
from fedrsclip_core.runs.run_folder import COMPLETED, FAILED, INTERRUPTED


def printable(text: str) -> str:
    """Return text in which nothing from a damaged file can steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def run_title(view: RunView) -> str:
    """Say which run this is."""
    if not view.config:
        return f"run {view.name}"
    method, seed = view.config.get("method"), view.config.get("seed")
    clients = view.config.get("federation.num_clients")
    return f"run {view.name}: {method}, {clients} clients, seed {seed}"


def run_ending(view: RunView) -> str:
    """Say how a run has ended."""
    why = f": {view.reason}" if view.state in (FAILED, INTERRUPTED) else ""
    return f"run {view.name}: {view.state}{why}"


def bench_title(view: BenchView) -> str:
    """Say which benchmark this is, and how far it has come."""
    said = f"benchmark {view.name}: {view.steps} of {len(view.cells)} cells are completed"
    failed = len(view.of(FAILED))
    return f"{said}, {failed} failed" if failed else said


def bench_ending(view: BenchView) -> str:
    """Say how a benchmark has ended."""
    if view.state == COMPLETED:
        return bench_title(view)
    return (
        f"{bench_title(view)}; no process works on it any more: the same fedrsclip bench command "
        "goes on with it"
    )
