"""What may be done with a grid, by name (``bench.protocol``)."""

from collections.abc import Callable

from fedrsclip.bench.base_to_new import base_to_new
from fedrsclip.bench.cells import grid
from fedrsclip.bench.runner import Failures, Runner
from fedrsclip.bench.traffic import traffic_extras, traffic_layout
from fedrsclip.bench.tune import tune
from fedrsclip.bench.unseen import unseen

Protocol = Callable[[Runner], Failures]


def standard(runner: Runner) -> Failures:
    """Run each cell once and report test images, and the traffic to each of bench.accuracies."""
    description = runner.description
    layout = traffic_layout(description.bench.accuracies)
    return runner.run(grid(description), layout, traffic_extras(description))[1]


PROTOCOLS: dict[str, Protocol] = {
    "standard": standard,
    "tune": tune,
    "unseen": unseen,
    "base_to_new": base_to_new,
}
