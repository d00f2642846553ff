"""`fedrsclip bench`: run what is missing of a grid, keep its tables true, say what failed."""

from collections.abc import Callable, Sequence

from fedrsclip.bench.base_to_new import base_to_new
from fedrsclip.bench.cells import grid
from fedrsclip.bench.description import describe
from fedrsclip.bench.engines import Echo
from fedrsclip.bench.runner import Failures, Runner, locked, refuse_others
from fedrsclip.bench.traffic import traffic_extras, traffic_layout
from fedrsclip.bench.tune import tune
from fedrsclip.bench.unseen import unseen


def bench(arguments: Sequence[str], *, echo: Echo) -> int:
    """Run a benchmark and return the exit status: 1 if a cell failed.

    Raises
    ------
    FedRSCLIPError
        If it cannot start.
    KeyboardInterrupt
        After everything was stopped; the same command resumes it.
    """
    description = describe(arguments)
    protocol = PROTOCOLS[description.bench.protocol]
    with locked(description.place) as lock:
        refuse_others(description)
        failed = protocol(Runner(description, lock, echo))
    if description.shard is None:
        echo(f"results: {description.folder}")
    else:
        echo(
            f"part {description.shard} has ended: once all have, the same command without "
            "bench.shard makes the tables"
        )
    for name, error in failed.items():
        echo(f"{name} failed: {error}")
    return 1 if failed else 0


def standard(runner: Runner) -> Failures:
    """Run each cell once, report test images and traffic, and write the page with its pictures."""
    from fedrsclip.report import write_report

    description = runner.description
    layout = traffic_layout(description.bench.accuracies)
    failed = runner.run(grid(description), layout, traffic_extras(description))[1]
    if description.shard is None:
        runner.echo(f"report: {write_report(description.folder)}")
    return failed


PROTOCOLS: dict[str, Callable[[Runner], Failures]] = {
    "standard": standard,
    "tune": tune,
    "unseen": unseen,
    "base_to_new": base_to_new,
}
"""What may be done with a grid, by ``bench.protocol``."""
