"""TensorBoard reads what `metrics.jsonl` says, also of a run that was interrupted."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedrsclip import check as checks
from fedrsclip.run import preparation
from fedrsclip_core import machine
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import TRAIN
from server_app import tensorboard
from server_app.app import run
from server_app.phase import new_record
from tests.disks import full_disk
from tests.unit.server.fakes import Clock, Fakes, Handler, small_config

pytestmark = pytest.mark.unit

ROUNDS = 4


class Interrupted(KeyboardInterrupt):
    """Stands for whatever ends a ServerApp."""


def configured(*, on: bool = True, **federation: object) -> Config:
    config = small_config(**{"num_rounds": ROUNDS, **federation})
    config.run.tensorboard = on
    return config


def go(config: Config, stop_at: int | None = None) -> None:
    def stop(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == stop_at:
            raise Interrupted
        return answer

    scripts: dict[tuple[str, int], Handler] = {(TRAIN, 2): stop}
    fakes = Fakes(config, scripts=scripts)
    run(Clock().exchange(fakes.grid()), config, run_id=7, echo=lambda line: None)


def interrupt(config: Config, server_round: int) -> None:
    with pytest.raises(Interrupted):
        go(config, stop_at=server_round)


def folder() -> Path:
    return paths.runs_dir() / "test-run"


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder() / "metrics.jsonl").read_text().splitlines()]


def shown() -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard makes of the run: steps and values by tag."""
    events = EventAccumulator(str(folder() / "tensorboard")).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_shows_the_records() -> None:
    curves = shown()
    told = {
        (tag, record["round"]): value
        for record in records()
        for tag, value in tensorboard.figures(record)
    }
    found = {(tag, step): value for tag, curve in curves.items() for step, value in curve}
    assert sum(map(len, curves.values())) == len(found), "a step is there twice"
    assert found == pytest.approx(told)


def test_every_round_is_a_step() -> None:
    go(configured())
    curves = shown()
    assert [step for step, _ in curves["loss/loss"]] == list(range(1, ROUNDS + 1))
    assert curves["loss/loss"][0][1] == pytest.approx((10 + 2 * 20 + 3 * 30) / 60)
    first, last = records()[0], records()[-1]
    assert curves["test/zero_shot"] == [(0, pytest.approx(first["test"]["zero_shot"]))]
    for name in ("global", "personalized/mean", "personalized/worst", "personalized_own/pooled"):
        value: Any = last["test"]
        for key in name.split("/"):
            value = value[key]
        assert curves[f"test/{name}"][-1] == (ROUNDS, pytest.approx(value))
    assert curves["clients/valid"][-1] == (ROUNDS, 3.0)
    assert curves["clients/dropped"][-1] == (ROUNDS, 0.0)
    sent = last["bytes"]["up"]["message"]
    assert curves["bytes/up/message"][-1] == (ROUNDS, pytest.approx(sent))
    assert {"seconds", "eval_seconds", "bytes/down/message"} <= curves.keys()
    assert_shows_the_records()


def test_a_round_is_there_as_soon_as_it_is_over() -> None:
    interrupt(configured(), 3)
    assert [step for step, _ in shown()["seconds"]] == [0, 1, 2]
    assert_shows_the_records()


@pytest.mark.parametrize("server_round", [1, 3])
def test_a_repeated_round_is_there_once(server_round: int) -> None:
    interrupt(configured(eval_every=2, fraction_train=0.67), server_round)
    interrupt(configured(eval_every=2, fraction_train=0.67), server_round)
    go(configured(eval_every=2, fraction_train=0.67))
    assert len(list((folder() / "tensorboard").iterdir())) > 1
    assert_shows_the_records()


def test_rounds_behind_the_checkpoint_are_forgotten() -> None:
    interrupt(configured(), 4)
    assert [step for step, _ in shown()["seconds"]] == [0, 1, 2, 3]
    for newest in sorted((folder() / "checkpoint").glob("round-*.safetensors"))[-2:]:
        newest.write_bytes(b"damaged")
    interrupt(configured(), 3)
    assert [step for step, _ in shown()["seconds"]] == [0, 1, 2]
    assert_shows_the_records()


def test_what_is_not_told_again_is_forgotten_too() -> None:
    go(configured())
    write = tensorboard.event_writer(configured().run, folder(), records()[:1])
    write(new_record(1) | {"seconds": 7.0})
    curves = shown()
    assert curves["seconds"][1:] == [(1, 7.0)]
    assert curves["loss/loss"] == []


def test_earlier_rounds_are_told_when_it_is_switched_on_late() -> None:
    interrupt(configured(on=False), 3)
    assert not (folder() / "tensorboard").exists()
    go(configured())
    assert_shows_the_records()


def test_it_may_be_switched_off_for_the_rest() -> None:
    interrupt(configured(), 3)
    go(configured(on=False))
    assert [step for step, _ in shown()["seconds"]] == [0, 1, 2]


def test_dropped_replies_are_counted() -> None:
    record = new_record(3)
    record["clients"] = {"asked": 3, "valid": 1, "dropped": {"a": "timeout", "b": "late"}}
    record["eval_dropped"] = {"a": "timeout"}
    found = dict(tensorboard.figures(record))
    assert (found["clients/valid"], found["clients/dropped"], found["eval_dropped"]) == (1, 2, 1)


def test_a_full_disk_leaves_whole_events(tmp_path: Path) -> None:
    write = tensorboard.event_writer(configured().run, tmp_path, [])
    with full_disk(), pytest.raises(OSError, match="No space"):
        write(new_record(0))
    for server_round in (0, 1):
        write(new_record(server_round))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("seconds")] == [0, 1]


def test_without_the_package_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(machine, "version", missing)
    with pytest.raises(ConfigError, match=r"run\.tensorboard is true.*fedrsclip\[tensorboard\]"):
        preparation.prepare(["run.tensorboard=true"])
    lines: list[str] = []
    assert checks.check(["run.tensorboard=true"], echo=lines.append) == 1
    assert any(line.startswith("problem  resources: run.tensorboard") for line in lines)
    config = configured()
    fakes = Fakes(config)
    with pytest.raises(ConfigError, match=r"pip install 'fedrsclip\[tensorboard\]'"):
        run(Clock().exchange(fakes.grid()), config, run_id=7, echo=lambda line: None)
    assert fakes.seen == []
    assert "tensorboard" in json.loads((folder() / "results.json").read_text())["reason"]
    go(configured(on=False))
    assert not (folder() / "tensorboard").exists()


def test_a_server_needs_no_torch_for_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from server_app.tensorboard import event_writer;"
        "from fedrsclip_core.config.schema import RunConfig;"
        "assert 'tensorboard' not in sys.modules;"
        "event_writer(RunConfig(tensorboard=True), Path(sys.argv[1]), []);"
        "assert 'tensorboard' in sys.modules;"
        "print(*{'torch', 'tensorflow', 'grpc'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
