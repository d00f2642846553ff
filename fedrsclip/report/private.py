"""The clients' own confusion matrices, which only a simulation has on the reader's machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.report.files import without_paths
from fedrsclip_core.learning.diagnostics import from_json
from fedrsclip_core.runs.evaluations import read_evaluation
from fedrsclip_core.runs.records import Results, UnreadableError
from fedrsclip_core.runs.run_folder import RunFolder

_MODES = ("personalized", "global", "zero-shot")


@dataclass(frozen=True)
class Answers:
    """Test images by true and answered class, over all clients.

    Attributes
    ----------
    confusions : Mapping[str, NDArray[np.int64]]
        ``(n_cls, n_cls)`` by evaluation mode.
    class_names : tuple of str
        The classes in order.
    absent : str
        Why there are none.
    """

    confusions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    absent: str = ""


def answers_at_home(
    folder: RunFolder, config: Mapping[str, Any], results: Results | None, problems: list[str]
) -> Answers:
    """Read what the clients of a simulation kept of the final evaluation.

    A server that shares a disk with a site must not look there: only what clients tell it may be
    in its report.
    """
    if config.get("partition.name") == "site" or not config.get("privacy.share_label_counts"):
        return Answers(absent=_NOT_SHARED)
    if results is None:
        return Answers(absent="Clients keep their confusion matrices at the end of a run.")
    if folder.path.parent.name != "runs":
        return Answers(absent="The clients' own files lie elsewhere: this folder was moved.")
    home = folder.evaluations(str(config.get("federation.name")))
    if not home.is_dir():
        return Answers(absent="No client of this run keeps its confusion matrix on this machine.")
    last = results["last"]
    found = []
    for client in results["clients"]:
        try:
            kept = read_evaluation(
                home, client["name"], folder.name, last["round"] if last else None
            )
            if kept is None:
                problems.append(f"evaluations of {client['name']} are missing: no confusions")
                continue
            names = tuple(without_paths(kept["class_names"]))
            found.append((names, _confusions(kept["parts"]["test"])))
        except (UnreadableError, ValueError, KeyError, TypeError):
            problems.append(
                f"evaluations of {client['name']} are damaged or of another round: no confusions"
            )
    if len(found) < len(results["clients"]) or not found:
        return Answers(absent="Not every client's own file could be read.")
    return _summed(found)


def _confusions(test: Mapping[str, Any]) -> dict[str, NDArray[np.int64]]:
    return {mode: from_json(test[mode]).confusion for mode in _MODES if mode in test}


def _summed(found: Iterable[tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]]) -> Answers:
    clients = list(found)
    names, first = clients[0]
    if any(n != names or c.keys() != first.keys() for n, c in clients[1:]):
        return Answers(absent="The clients' own files do not fit together.")
    size = (len(names), len(names))
    if any(matrix.shape != size for _, matrices in clients for matrix in matrices.values()):
        return Answers(absent="The clients' own files do not fit together.")
    summed = {mode: np.sum([c[mode] for _, c in clients], axis=0) for mode in first}
    return Answers(summed, names)


_NOT_SHARED = (
    "Confusion matrices are not shared: they stay at the clients, and this report was made from "
    "what the server knows."
)
