"""From what a cell left to one row of figures; what is not known stays ``None``."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fedrsclip.bench.cells import Cell, repeat_command
from fedrsclip.evaluate.scores import calibration_error, macro_f1
from fedrsclip_core.learning.diagnostics import (
    Tally,
    from_json,
)
from fedrsclip_core.runs.evaluations import Evaluation, read_evaluation
from fedrsclip_core.runs.records import (
    WAYS,
    Accuracies,
    Part,
    Results,
    RoundRecord,
    UnreadableError,
)
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.wire.messages import EVAL_MODES

Row = dict[str, Any]

PARTS: tuple[Part, ...] = ("test", "val")
_MODES = dict(zip(EVAL_MODES, ("zero_shot", "global", "personalized", "own"), strict=True))
_CALIBRATED = "personalized-calibrated"
_DIGESTS = ("split", "classes", "clip", "config", "code")

LAST_ROUNDS = 5
"""Rounds over whose evaluations the figures ``last5_*`` are means."""

_GLOBAL = ("global",)
_PERSONAL = ("personalized", "personalized_worst", "own", "own_worst")

Tallies = dict[str, Tally]
"""By mode, over all clients, of the test images."""


def identity(cell: Cell) -> Row:
    """Return what names a row, which is there before its figures are."""
    return {
        "setting": cell.setting,
        "method": cell.method,
        "variant": cell.variant,
        "seed": cell.seed,
    }


def row_of(cell: Cell, results: Results | None) -> Row:
    """Return a cell's row; accuracies, F1 and calibration errors are percentages.

    Parameters
    ----------
    cell : Cell
        The cell.
    results : Results or None
        Its ``results.json``; ``None`` as long as it is not completed.
    """
    row = identity(cell)
    if results is None:
        return row
    for prefix, record in (("", results["last"]), ("best_", results["val_best"])):
        row[f"{prefix}round"] = record["round"] if record else None
        for part in PARTS:
            found = accuracy_figures(record[part] if record else None)
            row |= {f"{prefix}{part}_{key}": value for key, value in found.items()}
    records = _records(cell)
    row |= _mean_of_last(cell, results, records)
    # No round changes this one, and the rounds in between do not have it.
    for part in PARTS:
        row[f"{part}_zero_shot"] = _percent(results["zero_shot"][part])
    row |= tally_figures(tallies(cell, results))
    row |= {f"bytes_{way}": results["bytes"][way]["message"] for way in WAYS}
    row["bytes_per_round"] = payload_per_round(records)
    row |= {"clients": results["num_clients"], "seconds": results["seconds"]}
    row |= {f"{part}_digest": results["digests"][part] for part in _DIGESTS}
    row["partitions"] = " ".join(map(str, cell.partitions))
    return row | {"repeat": repeat_command(cell)}


def tally_figures(pooled: Tallies) -> Row:
    """Return macro-F1 and calibration error by mode, as percentages; ``None`` where unknown."""
    row: Row = {}
    for name in _MODES.values():
        one = pooled.get(name)
        row[f"test_{name}_f1"] = _percent(macro_f1(one.confusion)) if one else None
        row[f"test_{name}_ece"] = _percent(calibration_error(one.calibration)) if one else None
    fitted = pooled.get(_CALIBRATED)
    row["test_calibrated_ece"] = _percent(calibration_error(fitted.calibration)) if fitted else None
    return row


def tallies(cell: Cell, results: Results) -> Tallies:
    """Sum up what all clients kept of the final evaluation; empty unless each one did."""
    found: list[Tallies] = []
    for kept in _kept(cell, results):
        test = kept["parts"]["test"]
        found.append({_MODES.get(mode, mode): from_json(value) for mode, value in test.items()})
    return _pooled(found)


def class_rows(cell: Cell, results: Results) -> list[Row]:
    """Return a row per mode and class: images and correct answers, over all clients."""
    names: list[str] = next((kept["class_names"] for kept in _kept(cell, results)), [])
    return [
        identity(cell)
        | {"mode": mode, "class": name, "images": int(images), "correct": int(correct)}
        | {"accuracy": 100 * correct / images if images else None}
        for mode, one in tallies(cell, results).items()
        if mode != _CALIBRATED
        for name, images, correct in zip(
            names, one.confusion.sum(axis=1), one.confusion.diagonal(), strict=True
        )
    ]


def _kept(cell: Cell, results: Results) -> list[Evaluation]:
    """Read what the clients kept; empty if one kept nothing or something of another evaluation."""
    folder, last = RunFolder(cell.folder), results["last"]
    about = folder.description()
    if about is None:
        return []
    home = folder.evaluations(about["config"]["federation.name"])
    found = []
    for client in results["clients"]:
        try:
            kept = read_evaluation(home, client["name"], cell.name, last["round"] if last else None)
        except UnreadableError:
            return []
        if kept is None:
            return []
        found.append(kept)
    return found


def _pooled(found: list[Tallies]) -> Tallies:
    if not found:
        return {}
    pooled = dict(found[0])
    for one in found[1:]:
        if one.keys() != pooled.keys():
            return {}
        pooled = {mode: pooled[mode] + one[mode] for mode in pooled}
    return pooled


def last_figures(shared: Sequence[Mapping[str, Any]], personal: Sequence[Mapping[str, Any]]) -> Row:
    """Return means over evaluations of the last rounds, as ``last5_*`` figures.

    Parameters
    ----------
    shared, personal : Sequence[Mapping[str, Any]]
        Records, with ``Accuracies`` by part, whose global and whose personalized figures count.
    """
    row: Row = {}
    for keys, records in ((_GLOBAL, shared), (_PERSONAL, personal)):
        for part in PARTS:
            found = [accuracy_figures(record[part]) for record in records]
            for key in keys:
                values = [one[key] for one in found if one[key] is not None]
                row[f"last5_{part}_{key}"] = fmean(values) if values else None
    return row


def payload_per_round(records: Sequence[RoundRecord]) -> float | None:
    """Return the mean bytes of what is shared, to the server, a client and round; without framing.

    ``None`` where no client has trained.
    """
    trained = sum(record["clients"]["valid"] for record in records)
    sent = sum(record["bytes"]["up"]["payload"] for record in records)
    return sent / trained if trained else None


def _mean_of_last(cell: Cell, results: Results, records: Sequence[RoundRecord]) -> Row:
    """Average what all clients evaluated of the last five rounds; the start is no round."""
    last = results["last"]
    if last is None:
        return last_figures([], [])
    since = max(0, last["round"] - LAST_ROUNDS)
    known = [r for r in records if r["test"] is not None and not r["sampled"]]
    rounds = [r for r in known if r["round"] > since or r["round"] == last["round"]] or [last]
    # Only the final evaluation fine-tunes: what clients have before is the shared prompt.
    tuned = cell.config.prompt.finetune_epochs > 0
    return last_figures(rounds, [r for r in rounds if r["final"]] if tuned else rounds)


def _records(cell: Cell) -> list[RoundRecord]:
    try:
        return list(RunFolder(cell.folder).rounds().read())
    except UnreadableError:
        return []


def accuracy_figures(figures: Accuracies | None) -> Row:
    """Return one part's accuracies by name, as percentages."""
    row: Row = {"global": _percent(figures["global"] if figures else None)}
    for name, values in (
        ("personalized", figures["personalized"] if figures else None),
        ("own", figures["personalized_own"] if figures else None),
    ):
        row[name] = _percent(values["mean"] if values else None)
        row[f"{name}_std"] = _percent(values["std"] if values else None)
        row[f"{name}_worst"] = _percent(values["worst"] if values else None)
        row[f"{name}_pooled"] = _percent(values["pooled"] if values else None)
    return row


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
