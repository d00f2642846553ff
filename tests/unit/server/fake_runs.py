"""Whole runs with scripted clients, what they leave, and scripts that break the contract."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp import Grid

from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import RunError
from fedrsclip_core.learning.prompts import random_prompt
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import ClientFailure, FailureCode
from fedrsclip_core.wire.records import ARRAYS, METRICS
from server_app.app import RunOutcome, run
from tests.unit.server.fakes import WIDTH, Clock, Fakes, Handler

SHAPE = (4, WIDTH)


def go(fakes: Fakes, lines: list[str] | None = None, *, deployed: bool = False) -> RunOutcome:
    return federate(fakes.grid(deployed=deployed), fakes.config, lines)


def federate(grid: Grid, config: Config, lines: list[str] | None = None) -> RunOutcome:
    """Carry out a run in which no time is lost with waiting."""
    echo = (lines if lines is not None else []).append
    return run(Clock().exchange(grid), config, run_id=7, echo=echo)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def start_prompt(config: Config) -> np.ndarray:
    return random_prompt(*SHAPE, config.prompt.init_std, "shared", config.seed)


def failed(fakes: Fakes, match: str, lines: list[str] | None = None) -> dict[str, Any]:
    """Run, expect a RunError and return the results that were written all the same."""
    with pytest.raises(RunError, match=match) as caught:
        go(fakes, lines)
    results = json.loads((paths.runs_dir() / "test-run" / "results.json").read_text())
    assert results["status"] == "failed"
    assert results["reason"] == str(caught.value)
    return results


def counts(changes: Mapping[str, float | list[float]]) -> Handler:
    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        for key, value in changes.items():
            answer[METRICS][key] = value
        return answer

    return handler


def one_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Handler:
    """Change one of the tensors that a client sends."""

    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        answer[ARRAYS][name] = Array(change(answer[ARRAYS][name].numpy()))
        return answer

    return handler


def arrays(change: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Handler:
    def handler(partition, message, answer):  # type: ignore[no-untyped-def]
        value = answer[ARRAYS][SHARED_PROMPT].numpy()
        answer[ARRAYS] = ArrayRecord({k: Array(v) for k, v in change(value).items()})
        return answer

    return handler


def raise_failure(partition, message, answer):  # type: ignore[no-untyped-def]
    raise ClientFailure(FailureCode.PRIVATE_STORE)


def raise_secret(partition, message, answer):  # type: ignore[no-untyped-def]
    raise ValueError("/home/secret")
