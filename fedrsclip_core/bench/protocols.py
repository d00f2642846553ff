"""What may be done with a grid, by name (``bench.protocol``)."""

from collections.abc import Callable

from fedrsclip_core.bench.cells import grid
from fedrsclip_core.bench.runner import Failures, Runner
from fedrsclip_core.bench.tune import tune
from fedrsclip_core.bench.unseen import unseen

Protocol = Callable[[Runner], Failures]


def standard(runner: Runner) -> Failures:
    """Run each cell once and report test images."""
    return runner.run(grid(runner.description))[1]


PROTOCOLS: dict[str, Protocol] = {"standard": standard, "tune": tune, "unseen": unseen}
