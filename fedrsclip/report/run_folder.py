"""What a run's folder holds, as far as it can be read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fedrsclip.report.files import without_paths
from fedrsclip.report.private import Answers, answers_at_home
from fedrsclip.report.state import State, state_of
from fedrsclip_core.runs.records import Accuracies, Results, RoundRecord, UnreadableError
from fedrsclip_core.runs.run_folder import RunFolder

T = TypeVar("T")


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
    def tests(self) -> list[tuple[RoundRecord, Accuracies]]:
        """The rounds in which somebody evaluated, with the accuracies on test images."""
        return [(record, test) for record in self.records if (test := record["test"]) is not None]

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
    answers = answers_at_home(folder, config, results, problems)
    digests = results["digests"] if results else None
    if digests is None:
        digests = _read(folder.digests, "digests are not shown", problems)
    return Run(
        name=folder.name,
        state=state_of(state),
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
