"""Folders of a run and of a benchmark as the server, the clients and the bench write them."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from fedrsclip.bench.tables import STANDARD
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.overrides import for_simulation, quote
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.learning.diagnostics import BINS
from fedrsclip_core.runs.evaluations import FORMAT

CLASSES = ("forest", "harbor", "river")
CLIENTS = ("north", "south")
GLOBAL, PERSONALIZED = (0.4, 0.5, 0.45), (0.4, 0.6, 0.75)
LOSS = {"loss": 2.5, "loss_fused": 1.5, "loss_shared": 0.9, "loss_dpac": 0.25, "loss_cmfac": 0.6}
DROPPED = {"south": "late: no answer in time"}
CONFUSION = {
    "north": [[8, 2, 0], [0, 10, 0], [1, 0, 9]],
    "south": [[5, 5, 0], [0, 9, 1], [0, 0, 0]],
}
MODES = ("zero-shot", "global", "personalized", "personalized-own")


def record(number: int) -> dict[str, Any]:
    """A line of ``metrics.jsonl``; in round 2 an answer was dropped."""
    trained = number > 0
    lost = DROPPED if number == 2 else {}
    sizes = {name: {"down": 1000 + number, "up": 900} for name in CLIENTS}
    return {
        "round": number,
        "seconds": 2.0 * trained,
        "eval_seconds": None if trained else 0.5,
        "final": number == 2,
        "failure": "",
        "clients": {"asked": 2 * trained, "valid": 2 * trained - len(lost), "dropped": lost},
        "eval_dropped": {},
        "num_examples": 50,
        "loss": LOSS | {"loss_private": None, "loss_contrast": None} if trained else None,
        "bytes": {
            "down": {"payload": 512, "message": 2000 + 2 * number},
            "up": {"payload": 512, "message": 1800},
            "clients": sizes,
        },
        "sampled": False,
        "clients_evaluated": 2,
        "clients_without_images": {"val": 0, "test": 0},
        "val": figures(number),
        "test": figures(number),
    }


def figures(number: int) -> dict[str, Any]:
    mean = PERSONALIZED[number]
    spread = {"mean": mean, "std": 0.1, "worst": mean - 0.1, "best": mean + 0.1, "pooled": mean}
    return {
        "images": 60,
        "zero_shot": None if number else 0.42,
        "global": GLOBAL[number],
        "personalized": spread | {"clients": 2},
        "personalized_own": spread | {"clients": 2},
    }


def client(index: int, *, shares: bool) -> dict[str, Any]:
    test = {"global": 0.4 + index / 10, "personalized": 0.85 - index / 5, "personalized_own": 0.9}
    return {
        "name": CLIENTS[index],
        "partition_id": index,
        "num_train": 40 - 10 * index,
        "num_val": 10,
        "num_test": 30,
        "label_counts": [20, 20 - 10 * index, 0] if shares else None,
        "last": {"val": test, "test": test},
    }


def results(*, shares: bool = True, status: str = "completed", reason: str = "") -> dict[str, Any]:
    records = [record(number) for number in range(3)]
    return {
        "status": status,
        "reason": reason or None,
        "method": "fedrsclip",
        "seed": 0,
        "run": "first",
        "num_rounds": 2,
        "rounds": 2,
        "num_clients": 2,
        "zero_shot": {"val": 0.42, "test": 0.42},
        "initial": records[0],
        "last": records[-1],
        "val_best": records[-1],
        "clients": [client(index, shares=shares) for index in range(2)],
        "refused": {},
        "dropped": {"total": 1, "clients": {"south": {"late": 1}}},
        "failed_rounds": [],
        "bytes": {
            "down": {"payload": 1536, "message": 6006},
            "up": {"payload": 0, "message": 5400},
            "clients": {},
            "per_client_round": {"down": 1001.0, "up": 900.0},
        },
        "seconds": 12.0,
        "digests": {"code": "c0de" * 16, "split": "5b11" * 16},
        "versions": {"python": "3.11.0", "fedrsclip": "0.1.0"},
    }


def write_run(home: Path, *overrides: str, name: str = "first", **changed: Any) -> Path:
    """Write a whole run of ``overrides``; ``changed`` is for ``results.json``."""
    config = _composed(overrides)
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    about = {
        "run": name,
        "flower_run_ids": [1],
        "overrides": f"data=folder run.name={name} " + " ".join(overrides),
        "config": {key: v for key, v in flattened(config) if key not in SITE_KEYS},
    }
    (folder / "run.json").write_text(json.dumps(about))
    lines = [json.dumps(record(number)) + "\n" for number in range(3)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    shares = config.privacy.share_label_counts
    (folder / "results.json").write_text(json.dumps(results(shares=shares) | changed))
    write_evaluations(home, config.federation.name, name)
    return folder


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    names = f"data.class_names=[{','.join(map(quote, CLASSES))}]"
    return compose(for_simulation(["data=folder", names, "method=fedrsclip", *overrides]))


def write_evaluations(home: Path, federation: str, name: str) -> None:
    """Write what the clients keep at home, as in a simulation."""
    folder = home / "evaluations" / federation / name
    folder.mkdir(parents=True)
    zeros = dict.fromkeys(("count", "confidence", "correct"), [0.0] * BINS)
    for who, confusion in CONFUSION.items():
        kept = {"confusion": confusion, "calibration": zeros}
        parts = {"test": dict.fromkeys(MODES, kept)}
        about = {"format": FORMAT, "run": name, "client": who, "round": 2}
        about |= {"class_names": list(CLASSES), "parts": parts}
        (folder / f"{who}.json").write_text(json.dumps(about))


METHODS = {
    "promptfl": (50.0, 40.0),
    "fedrsclip": (48.0, 70.0),
    "fedrsclip_without_dpac": (47.0, 66.0),
}
SENT = {"promptfl": 3000.0, "fedrsclip": 500.0, "fedrsclip_without_dpac": 0.0}
SEEDS = (0, 1)


def write_bench(home: Path, name: str = "small") -> Path:
    """Write a benchmark of one setting whose last cell has not been run."""
    folder = home / "bench" / name
    folder.mkdir(parents=True)
    rows = [row(method, seed) for seed in SEEDS for method in METHODS]
    rows[-1] = {key: rows[-1][key] for key in ("setting", "method", "variant", "seed")}
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    about = {"name": name, "reference": "fedrsclip", "seeds": SEEDS, "layout": asdict(STANDARD)}
    (folder / "bench.json").write_text(json.dumps(about))
    for one in rows[:-1]:
        run = home / "runs" / f"bench-{name}-uniform-{one['method']}-seed{one['seed']}"
        run.mkdir(parents=True)
        lines = [json.dumps(shifted(number, one["seed"])) + "\n" for number in range(3)]
        (run / "metrics.jsonl").write_text("".join(lines))
    return folder


def row(method: str, seed: int) -> dict[str, Any]:
    shared, personal = METHODS[method]
    return {
        "setting": "uniform",
        "method": method,
        "variant": "",
        "seed": seed,
        "test_zero_shot": 42.0,
        "test_global": shared + 2 * seed,
        "test_personalized": personal + 4 * seed,
        "test_personalized_worst": personal - 10,
        "test_own": personal,
        "test_global_ece": 10.0 if method == "fedrsclip" else 20.0,
        "bytes_down": 40_000.0 if method == "promptfl" else 60_000.0,
        "bytes_up": 20_000.0,
        "bytes_per_round": SENT[method],
        "round": 1 if method == "promptfl" else 2,
        "lora_per_round": 300_000.0,
        "clip_per_round": 60_000_000.0,
        "split_digest": f"split-{seed}",
        "code_digest": "c0de",
    }


def shifted(number: int, seed: int) -> Mapping[str, Any]:
    changed = record(number)
    changed["test"]["personalized"]["mean"] += seed / 10
    return changed
