"""From what a cell left to one row of figures; what is not known stays ``None``."""

import json
from collections.abc import Mapping
from typing import Any

from fedrsclip.bench.cells import Cell, repeat_command
from fedrsclip_core.learning.diagnostics import (
    FORMAT,
    Tally,
    calibration_error,
    from_json,
    macro_f1,
)
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import EVAL_MODES

Row = dict[str, Any]

PARTS = ("test", "val")
_MOMENTS = {"last": "", "val_best": "best_"}
_PERSONAL = {"personalized": "personalized", "personalized_own": "own"}
_OF_CLIENTS = {"mean": "", "std": "_std", "worst": "_worst", "pooled": "_pooled"}
_MODES = dict(zip(EVAL_MODES, ("zero_shot", "global", "personalized", "own"), strict=True))
_DIGESTS = ("split", "classes", "clip", "config", "code")

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


def row_of(cell: Cell, results: Mapping[str, Any] | None) -> Row:
    """Return a cell's row; accuracies, F1 and calibration errors are percentages.

    Parameters
    ----------
    cell : Cell
        The cell.
    results : Mapping[str, Any] or None
        Its ``results.json``; ``None`` as long as it is not completed.
    """
    row = identity(cell)
    if results is None:
        return row
    for moment, prefix in _MOMENTS.items():
        record = results[moment] or {}
        row[f"{prefix}round"] = record.get("round")
        for part in PARTS:
            start = f"{prefix}{part}"
            row |= {f"{start}_{key}": v for key, v in _accuracies(record.get(part)).items()}
    # No round changes this one, and the rounds in between do not have it.
    for part in PARTS:
        row[f"{part}_zero_shot"] = _percent(results["zero_shot"][part])
    found = tallies(cell, results)
    for name in _MODES.values():
        one = found.get(name)
        row[f"test_{name}_f1"] = _percent(macro_f1(one.confusion)) if one else None
        row[f"test_{name}_ece"] = _percent(calibration_error(one.calibration)) if one else None
    row |= {f"bytes_{way}": results["bytes"][way]["message"] for way in ("down", "up")}
    row |= {"clients": results["num_clients"], "seconds": results["seconds"]}
    row |= {f"{part}_digest": results["digests"][part] for part in _DIGESTS}
    row["partitions"] = " ".join(map(str, cell.partitions))
    return row | {"repeat": repeat_command(cell)}


def tallies(cell: Cell, results: Mapping[str, Any]) -> Tallies:
    """Sum up what all clients kept of the final evaluation; empty unless each one did."""
    found: list[Tallies] = []
    for kept in _kept(cell, results):
        test = kept["parts"]["test"]
        found.append({_MODES[mode]: from_json(value) for mode, value in test.items()})
    return _pooled(found)


def class_rows(cell: Cell, results: Mapping[str, Any]) -> list[Row]:
    """Return a row per mode and class: images and correct answers, over all clients."""
    names: list[str] = next((kept["class_names"] for kept in _kept(cell, results)), [])
    return [
        identity(cell)
        | {"mode": mode, "class": name, "images": int(images), "correct": int(correct)}
        | {"accuracy": 100 * correct / images if images else None}
        for mode, one in tallies(cell, results).items()
        for name, images, correct in zip(
            names, one.confusion.sum(axis=1), one.confusion.diagonal(), strict=True
        )
    ]


def _kept(cell: Cell, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read what the clients kept; empty if one kept nothing or something of another evaluation."""
    about = json.loads((cell.folder / "run.json").read_text(encoding="utf-8"))
    folder = paths.evaluations_dir(about["config"]["federation.name"], cell.name)
    wanted = (FORMAT, cell.name, (results["last"] or {}).get("round"))
    found = []
    for client in results["clients"]:
        try:
            kept = json.loads((folder / f"{client['name']}.json").read_text(encoding="utf-8"))
            if (kept["format"], kept["run"], kept["round"]) != wanted:
                return []
        except (OSError, ValueError, KeyError):
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


def _accuracies(figures: Mapping[str, Any] | None) -> Row:
    figures = figures or {}
    row = {"global": _percent(figures.get("global"))}
    for mode, name in _PERSONAL.items():
        values = figures.get(mode) or {}
        row |= {f"{name}{end}": _percent(values.get(key)) for key, end in _OF_CLIENTS.items()}
    return row


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
