"""What may be done with a grid, by name (``bench.protocol``)."""

from collections.abc import Callable

from fedrsclip_core.bench.base_to_new import base_to_new
from fedrsclip_core.bench.cells import grid
from fedrsclip_core.bench.runner import Failures, Runner
from fedrsclip_core.bench.traffic import traffic_extras, traffic_layout
from fedrsclip_core.bench.tune import tune
from fedrsclip_core.bench.unseen import unseen

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
