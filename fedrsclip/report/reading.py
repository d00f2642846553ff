"""What a run's folder holds, as far as it can be read and without the places that it names."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.learning.diagnostics import from_json
from fedrsclip_core.runs import paths, run_folder
from fedrsclip_core.runs.evaluations import read_evaluation
from fedrsclip_core.runs.records import Accuracies, Results, RoundRecord, UnreadableError
from fedrsclip_core.runs.run_folder import FAILED, INTERRUPTED, RUNNING, RunFolder

T = TypeVar("T")
Json = dict[str, Any]

HIDDEN = "[path]"
_QUOTED = re.compile(r"""(?<=['"])(?:file:)?(?:~|[A-Za-z]:)?[\\/][^'"]*(?=['"])""")
_PATH = re.compile(r"""(?<![\w./\\])(?:file:/*|~|[A-Za-z]:)?[\\/][^\s'",;)\]}|]+""")
_MODES = ("personalized", "global", "zero-shot")


@dataclass(frozen=True)
class State:
    """A word for a run's state, and a sentence if there is more to say."""

    word: str
    sentence: str = ""


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


@dataclass(frozen=True)
class Run:
    """A run as far as it can be read.

    Attributes
    ----------
    name : str
        The run's name.
    state : State
        Whether it is running.
    config : Mapping[str, Any]
        By ``group.key``; empty if it is not known.
    overrides : str
        What was submitted.
    records : tuple of RoundRecord
        The lines of ``metrics.jsonl``.
    results : Results or None
        ``results.json``.
    digests : Mapping[str, Any]
        By part.
    class_names : tuple of str
        Empty if only the sites know them.
    label_counts : Mapping[str, list[int]]
        Training images per class by client, if the clients shared them.
    answers : Answers
        The clients' own confusion matrices, where they may be read.
    problems : tuple of str
        A sentence for each file that is missing or damaged.
    """

    name: str
    state: State
    config: Mapping[str, Any]
    overrides: str
    records: tuple[RoundRecord, ...]
    results: Results | None
    digests: Mapping[str, Any]
    class_names: tuple[str, ...]
    label_counts: Mapping[str, list[int]]
    answers: Answers
    problems: tuple[str, ...]

    @property
    def evaluated(self) -> list[tuple[RoundRecord, Accuracies]]:
        """The rounds in which somebody evaluated, with the accuracies on test images."""
        return [(one, one["test"]) for one in self.records if one["test"] is not None]

    @property
    def shares_counts(self) -> bool:
        """Whether clients told the server how many images of each class they have."""
        return bool(self.config.get("privacy.share_label_counts"))


def read_run(path: Path) -> Run:
    """Read the folder of a run that is completed, running, or was interrupted."""
    folder, problems = RunFolder(path), list[str]()
    state = folder.state()  # asked first: what a run writes at its end is then there
    about = _read(folder.description, "settings and command are not shown", problems)
    if about is None and not problems:
        problems.append("run.json is missing: settings and command are not shown")
    config = about["config"] if about else {}
    records = _records(folder, problems)
    results = _read(folder.results, "the clients' figures are not shown", problems)
    counts = _label_counts(folder, config, results, problems)
    answers = _answers_at_home(folder, config, results, problems)
    digests = results["digests"] if results else None
    if digests is None:
        digests = _read(folder.digests, "digests are not shown", problems)
    return Run(
        name=folder.name,
        state=_state_of(state),
        config=config,
        overrides=about["overrides"] if about else "",
        records=tuple(records),
        results=results,
        digests=digests or {},
        class_names=answers.class_names or tuple(_class_names(config)),
        label_counts=counts,
        answers=answers,
        problems=tuple(problems),
    )


def without_paths(value: T) -> T:
    """Return plain data in which no text names a place on a disk."""
    found: Any = _without(value, [str(paths.home()), str(Path.home())])
    return found  # type: ignore[no-any-return]


def _without(value: object, homes: Sequence[str]) -> object:
    if isinstance(value, str):
        return _hidden(value, homes)
    if isinstance(value, dict):
        return {_hidden(str(key), homes): _without(inner, homes) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, homes) for inner in value]
    return value


def _hidden(text: str, homes: Sequence[str]) -> str:
    # These may hold blanks, at which a pattern would stop.
    for place in homes:
        if len(place) > 1:
            text = text.replace(place, "/home")
    return _PATH.sub(HIDDEN, _QUOTED.sub(HIDDEN, text))


def _state_of(state: run_folder.State) -> State:
    """Return what the page says of a run's state."""
    sentences = {
        RUNNING: "This run is running; the report shows it as far as it has come.",
        FAILED: f"This run failed: {without_paths(state.reason)}.",
        INTERRUPTED: f"This run was interrupted: the report shows the rounds that it completed; "
        f"{state.reason}.",
    }
    return State(state.word, sentences.get(state.word, ""))


def _read(read: Callable[[], T | None], meaning: str, problems: list[str]) -> T | None:
    """Return a file's content without paths; ``meaning`` says what is lacking if it is damaged."""
    try:
        return without_paths(read())
    except UnreadableError as error:
        problems.append(f"{error.file} {error.what} ({error.why}): {meaning}")
        return None


def _records(folder: RunFolder, problems: list[str]) -> list[RoundRecord]:
    log = folder.rounds()
    records = _read(log.read, "no curve is shown", problems) or []
    if log.damaged:
        numbers = ", ".join(map(str, log.damaged))
        problems.append(f"metrics.jsonl is damaged in line {numbers}: these rounds are left out")
    if log.cut:
        problems.append("the last line of metrics.jsonl is cut off: its round is left out")
    if not (records or log.damaged or log.cut):
        problems.append("metrics.jsonl is missing: no curve is shown")
    return records


def _class_names(config: Mapping[str, Any]) -> list[str]:
    if config.get("data.class_names") or config.get("data.name") != "demo_scenes":
        return list(config.get("data.class_names") or ())
    from fedrsclip_core.demo.scenes import CLASS_NAMES

    return list(CLASS_NAMES)


def _label_counts(
    folder: RunFolder, config: Mapping[str, Any], results: Results | None, problems: list[str]
) -> dict[str, list[int]]:
    """Return what the clients shared; of a simulation that has not ended, what was dealt."""
    if not config.get("privacy.share_label_counts"):
        return {}
    if results is not None:
        known = {c["name"]: c["label_counts"] for c in results["clients"] if c["label_counts"]}
        return known if len(known) == len(results["clients"]) else {}
    if config.get("partition.name") == "site":
        return {}
    split = _read(folder.split, "who has which classes is not shown", problems)
    dealt = split["clients"] if split else []
    return {f"client-{number}": parts["train"]["per_class"] for number, parts in enumerate(dealt)}


def _answers_at_home(
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


def _summed(found: Sequence[tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]]) -> Answers:
    names, first = found[0]
    size = (len(names), len(names))
    fitting = all(n == names and c.keys() == first.keys() for n, c in found)
    if not fitting or any(matrix.shape != size for _, c in found for matrix in c.values()):
        return Answers(absent="The clients' own files do not fit together.")
    summed = {mode: np.sum([c[mode] for _, c in found], axis=0) for mode in first}
    return Answers(summed, names)


_NOT_SHARED = (
    "Confusion matrices are not shared: they stay at the clients, and this report was made from "
    "what the server knows."
)
