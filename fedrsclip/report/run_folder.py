"""What a run's folder holds, as far as it can be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip.report.files import Json, Needs, Reader
from fedrsclip.report.private import Answers, answers_at_home
from fedrsclip.report.state import State, state_of

_MAYBE = (dict, type(None))
_ABOUT: Needs = {"config": dict}
_RECORD: Needs = {
    "round": int,
    "seconds": (int, float),
    "eval_seconds": (int, float, type(None)),
    "clients": dict,
    "eval_dropped": dict,
    "loss": _MAYBE,
    "bytes": dict,
    "test": _MAYBE,
}
_RESULTS: Needs = {
    "status": str,
    "reason": (str, type(None)),
    "last": _MAYBE,
    "clients": list,
    "seconds": (int, float),
}
_CLIENT = {"name", "partition_id", "num_train", "num_val", "num_test", "label_counts", "last"}


@dataclass(frozen=True)
class Run:
    """A run as far as it can be read.

    Attributes
    ----------
    name : str
        The run's name.
    state : State
        Whether it goes on.
    config : Mapping[str, Any]
        By ``group.key``; empty if it is not known.
    overrides : str
        What was submitted.
    records : tuple of dict
        The lines of ``metrics.jsonl``.
    results : dict or None
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
    records: tuple[Json, ...]
    results: Json | None
    digests: Mapping[str, Any]
    class_names: tuple[str, ...]
    label_counts: Mapping[str, list[int]]
    answers: Answers
    problems: tuple[str, ...]

    @property
    def evaluated(self) -> list[Json]:
        """The records of the rounds in which somebody evaluated."""
        return [record for record in self.records if record["test"] is not None]

    @property
    def shares_counts(self) -> bool:
        """Whether clients told the server how many images of each class they have."""
        return bool(self.config.get("privacy.share_label_counts"))


def read_run(folder: Path) -> Run:
    """Read the folder of a run that is completed, going on, or was interrupted."""
    reader = Reader(folder)
    about = reader.json("run.json", meaning="settings and command are not shown", needs=_ABOUT)
    config: Mapping[str, Any] = (about or {}).get("config") or {}
    records = reader.lines("metrics.jsonl", meaning="no curve is shown", needs=_RECORD)
    results = _results(reader)
    names = _class_names(config)
    counts = _label_counts(reader, config, results)
    answers = answers_at_home(reader, config, results)
    digests = (results or {}).get("digests") or _digests(reader)
    return Run(
        name=folder.name,
        state=state_of(folder, results),
        config=config,
        overrides=str((about or {}).get("overrides", "")),
        records=tuple(records),
        results=results,
        digests=digests,
        class_names=answers.class_names or tuple(names),
        label_counts=counts,
        answers=answers,
        problems=tuple(reader.problems),
    )


def _results(reader: Reader) -> Json | None:
    if not (reader.folder / "results.json").exists():
        return None  # not a problem of the file: the state says that the run has not ended
    meaning = "the clients' figures are not shown"
    found = reader.json("results.json", meaning=meaning, needs=_RESULTS)
    if found is None or all(_is_client(client) for client in found["clients"]):
        return found
    reader.problems.append(f"results.json is damaged: {meaning}")
    return None


def _is_client(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= _CLIENT


def _digests(reader: Reader) -> Json:
    if not (reader.folder / "digests.json").exists():
        return {}  # a run writes them when its clients have answered
    return reader.json("digests.json", meaning="digests are not shown") or {}


def _class_names(config: Mapping[str, Any]) -> list[str]:
    if config.get("data.class_names") or config.get("data.name") != "demo_scenes":
        return list(config.get("data.class_names") or ())
    from fedrsclip_core.demo.scenes import CLASS_NAMES

    return list(CLASS_NAMES)


def _label_counts(
    reader: Reader, config: Mapping[str, Any], results: Json | None
) -> dict[str, list[int]]:
    """Return what the clients shared; of a simulation that has not ended, what was dealt."""
    if not config.get("privacy.share_label_counts"):
        return {}
    if results is not None:
        known = {c["name"]: c["label_counts"] for c in results["clients"] if c["label_counts"]}
        return known if len(known) == len(results["clients"]) else {}
    if config.get("partition.name") == "site" or not (reader.folder / "split.json").exists():
        return {}
    split = reader.json("split.json", meaning="who has which classes is not shown") or {}
    dealt = split.get("clients", ())
    return {f"client-{number}": parts["train"]["per_class"] for number, parts in enumerate(dealt)}
