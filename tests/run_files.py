"""What the files of a run's folder hold, whole and typed, for tests that change a part of it."""

from collections.abc import Mapping
from typing import Any

from fedrsclip_core.runs.records import Accuracies, Description, Results, RoundRecord, Spread

CLIENTS = ("client-0", "client-1")


def spread(mean: float, *, std: float = 0.1, worst: float = 0.3, best: float = 0.9) -> Spread:
    return {"mean": mean, "std": std, "worst": worst, "best": best, "pooled": mean, "clients": 2}


def accuracies(
    *,
    zero_shot: float | None = None,
    shared: float | None = None,
    personalized: Spread | None = None,
    own: Spread | None = None,
) -> Accuracies:
    return {
        "images": 20,
        "zero_shot": zero_shot,
        "global": shared,
        "personalized": personalized,
        "personalized_own": own,
    }


def round_record(
    server_round: int, *, lost: Mapping[str, str] | None = None, **changes: Any
) -> RoundRecord:
    """Return a round of two clients with round figures."""
    trained = server_round > 0
    record: RoundRecord = {
        "round": server_round,
        "seconds": 1.5 if trained else 0.0,
        "eval_seconds": 0.5,
        "final": False,
        "failure": "",
        "clients": {
            "asked": 2 if trained else 0,
            "valid": 2 - len(lost or {}) if trained else 0,
            "dropped": dict(lost or {}),
        },
        "eval_dropped": {},
        "num_examples": 20,
        "loss": {"loss": 1.25} if trained else None,
        "bytes": {
            "down": {"payload": 2000, "message": 4000},
            "up": {"payload": 1000, "message": 3000},
            "clients": {name: {"down": 2000, "up": 1500} for name in CLIENTS},
        },
        "sampled": False,
        "clients_evaluated": 2,
        "clients_without_images": {"val": 0, "test": 0},
        "val": None,
        "test": accuracies(
            zero_shot=None if trained else 0.4,
            shared=0.4 + server_round / 10,
            personalized=spread(0.4 + server_round / 8),
        ),
    }
    changed: Any = record | changes
    return changed  # type: ignore[no-any-return]


def results(name: str, **changes: Any) -> Results:
    """Return the summary of a completed run of four rounds."""
    found: Results = {
        "status": "completed",
        "reason": None,
        "method": "fedrsclip",
        "seed": 3,
        "run": name,
        "num_rounds": 4,
        "rounds": 4,
        "num_clients": 2,
        "zero_shot": {"val": None, "test": 0.4},
        "initial": round_record(0),
        "last": round_record(4),
        "val_best": None,
        "clients": [
            {
                "name": client,
                "partition_id": number,
                "num_train": 10,
                "num_val": 0,
                "num_test": 10,
                "label_counts": None,
                "last": None,
            }
            for number, client in enumerate(CLIENTS)
        ],
        "refused": {},
        "dropped": {"total": 0, "clients": {}},
        "failed_rounds": [],
        "bytes": {
            "down": {"payload": 1, "message": 2},
            "up": {"payload": 1, "message": 2},
            "clients": {},
            "per_client_round": {"down": 2.0, "up": 2.0},
        },
        "seconds": 12.5,
        "digests": dict.fromkeys(("code", "config", "clip", "classes", "split"), "d"),
        "versions": {},
    }
    changed: Any = found | changes
    return changed  # type: ignore[no-any-return]


def description(
    name: str, config: Mapping[str, Any], overrides: str = "", run_id: int = 1
) -> Description:
    return {
        "run": name,
        "flower_run_ids": [run_id],
        "overrides": overrides,
        "config": dict(config),
    }
