"""The nodes of the Ray cluster that this process is connected with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedrsclip.ray_cluster.at_node import Expected, problem_here
from fedrsclip_core.errors import RunError

Node = Mapping[str, Any]
"""A node as Ray describes it."""

_ANSWERED_WITHIN = 180.0


@dataclass(frozen=True)
class Share:
    """What a cell or a client takes of a node; several may share a GPU."""

    cpus: float
    gpus: float

    def fits(self, node: Node) -> int:
        """Return how often a node has room for it."""
        has = node["Resources"]
        times = _times(self.cpus, has.get("CPU", 0.0))
        if self.gpus >= 1:
            return min(times, _times(self.gpus, has.get("GPU", 0.0)))
        if self.gpus > 0:  # nobody has parts of two GPUs
            return min(times, int(has.get("GPU", 0.0)) * _times(self.gpus, 1.0))
        return times

    def __str__(self) -> str:
        return f"CPU={self.cpus:g}" + (f" GPU={self.gpus:g}" if self.gpus else "")


class Nodes:
    """The nodes with room for a share, as they come and go."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._known = self._usable()

    @property
    def room(self) -> int:
        """How often all of them together have room for the share."""
        return sum(map(self._share.fits, self._known.values()))

    @property
    def names(self) -> str:
        """Who they are."""
        return ", ".join(map(_name, self._known.values()))

    def check(
        self,
        what: str,
        expected: Expected,
        configurations: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        """Look for code, packages, shared folder, images and CLIP at each.

        Parameters
        ----------
        what : str
            That a node without them cannot do.
        expected : Expected
            What each must have.
        configurations : Sequence[str]
            Resolved ones, for whose images and CLIP it is asked.
        environment : Mapping[str, str]
            Of the processes there.

        Raises
        ------
        RunError
            Naming the node and what is wrong there.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task: Any = ray.remote(problem_here)
        asked = {
            id: task.options(
                num_cpus=0,
                runtime_env={"env_vars": dict(environment)},
                scheduling_strategy=NodeAffinitySchedulingStrategy(id, soft=False),
            ).remote(expected, configurations)
            for id in self._known
        }
        for id, answer in asked.items():
            if problem := _answered(answer):
                raise RunError(f"the node {_name(self._known[id])} cannot {what}: {problem}")

    def changes(self, others: str, none_left: str) -> Iterator[str]:
        """Say who has come and gone since the last look.

        Parameters
        ----------
        others, none_left : str
            What happens to the work of one that is gone, and what if it was the last.
        """
        before, self._known = self._known, self._usable()
        for id in before.keys() - self._known.keys():
            yield f"the node {_name(before[id])} is gone: {others if self._known else none_left}"
        for id in self._known.keys() - before.keys():
            yield f"the node {_name(self._known[id])} has joined"

    def _usable(self) -> dict[str, Node]:
        import ray

        listed: Callable[[], list[Node]] = ray.nodes
        return {
            node["NodeID"]: node
            for node in listed()
            if node["Alive"] and self._share.fits(node) > 0
        }


def cluster_address() -> str:
    """Return ``host:port`` of the cluster that this process is connected with."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _times(part: float, whole: float) -> int:
    """Return how often a part fits, counted in ten-thousandths as Ray does: 0.1 in 1 ten times."""
    return round(1e4 * whole) // max(1, round(1e4 * part))


def _answered(answer: Any) -> str:
    import ray

    try:
        return str(ray.get(answer, timeout=_ANSWERED_WITHIN))
    except ray.exceptions.GetTimeoutError:
        return f"it did not answer within {_ANSWERED_WITHIN:.0f} s"
    except ray.exceptions.RayTaskError as failed:
        return f"fedrsclip does not run there ({failed.cause!r})"
    except ray.exceptions.RayError as failed:
        return f"it does not carry out tasks ({type(failed).__name__})"


def _name(node: Node) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
