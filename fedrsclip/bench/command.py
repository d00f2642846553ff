"""`fedrsclip bench`: run what is missing of a grid, keep its tables true, say what failed."""

from collections.abc import Sequence

from fedrsclip.bench.description import describe
from fedrsclip.bench.protocols import PROTOCOLS
from fedrsclip.bench.runner import Echo, Runner, locked


def bench(arguments: Sequence[str], *, echo: Echo) -> int:
    """Run a benchmark and return the exit status: 1 if a cell failed.

    Raises
    ------
    FedRSCLIPError
        If it cannot start.
    KeyboardInterrupt
        After everything was stopped; the same command goes on.
    """
    description = describe(arguments)
    protocol = PROTOCOLS[description.bench.protocol]
    with locked(description.folder) as lock:
        failed = protocol(Runner(description, lock, echo))
    echo(f"results: {description.folder}")
    for name, error in failed.items():
        echo(f"{name} failed: {error}")
    return 1 if failed else 0
