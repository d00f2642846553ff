"""``fedrsclip run`` for real: true exit status, results, and nothing left behind."""

import json
import signal
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from fedrsclip.run.flower import RAY_WAS_SLOW
from tests.integration import hostile
from tests.integration.launched import SMALL, Launch

pytestmark = pytest.mark.integration
BOTH = pytest.mark.parametrize("engine", ["local", "flower"])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_two_runs_side_by_side(launch: Launch) -> None:
    runs = {seed: launch(str(seed), "run", f"seed={seed}", *SMALL) for seed in (1, 2)}
    while all(one.running for one in runs.values()):
        time.sleep(0.5)
    for seed, one in runs.items():
        assert one.wait() == 0, one.output
        results = one.results
        assert (results["status"], results["seed"]) == ("completed", seed)
        split, digests = one.record("split"), one.record("digests")
        assert (split["seed"], split["digest"]) == (seed, digests["split"])
        assert "round   1 |" in one.output
        assert "round   2 |" in one.output
        assert "zero-shot" in one.output
        pictures = [x.removeprefix("picture: ") for x in one.output.splitlines() if ".png" in x]
        assert len(pictures) == 2
        assert all(Path(picture).is_file() for picture in pictures)
        assert "Traceback" not in one.output
        one.wait_until_alone()
        assert not (one.user_home / ".flwr").exists()


@BOTH
def test_a_failed_run_is_status_1_with_its_reason(launch: Launch, engine: str) -> None:
    chosen = f"federation.engine={engine}"
    one = launch("one", "run", *SMALL, chosen, "federation.prepare_timeout=0.01")
    assert one.wait() == 1, one.output
    assert "the run failed: " in one.output
    assert "Traceback" not in one.output
    assert one.results["status"] == "failed"
    (log,) = one.home.glob(f"logs/*.{engine}.log")
    assert str(log) in one.output
    one.wait_until_alone(engine)


def test_a_run_whose_ray_starts_too_slowly_is_started_again(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", *hostile.__path__)
    monkeypatch.setenv("FEDRSCLIP_TEST_HOSTILE", "slow-ray")
    one = launch("one", "run", *SMALL, "federation.engine=flower")
    assert one.wait() == 0, one.output
    assert f"{RAY_WAS_SLOW}: starting the run again" in one.output
    assert one.results["status"] == "completed"
    assert one.output.count("round   0 |") == 1
    one.wait_until_alone("flower")


@BOTH
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_ctrl_c_in_the_middle_of_a_run_leaves_no_process(launch: Launch, engine: str) -> None:
    chosen = f"federation.engine={engine}"
    one = launch("one", "run", *SMALL, chosen, "federation.num_rounds=10000")
    one.wait_for("round   1 |")
    assert one.left_behind() != []
    one.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    one.process.send_signal(signal.SIGINT)
    assert one.wait() == 130, one.output
    assert "everything was stopped" in one.output
    assert "Traceback" not in one.output
    one.wait_until_alone(engine)
    (folder,) = one.home.glob("runs/*")
    assert f"resume it: fedrsclip run resume={folder.name}" in one.output


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_killed_run_goes_on_and_ends_with_equal_bits(launch: Launch) -> None:
    # A round takes a tenth of a second: a busy machine needs some of them to see the first.
    settings = [*SMALL, "federation.num_rounds=60", "strategy=fedadam", "run.name=first"]
    whole = launch("whole", "run", *settings)
    assert whole.wait() == 0, whole.output

    killed = launch("killed", "run", *settings)
    killed.wait_for("round   1 |")
    killed.process.kill()
    killed.process.wait(timeout=10)
    killed.wait_until_alone()
    assert not (killed.home / "runs/first/results.json").exists()

    again = launch("killed", "run", "resume=first")
    assert again.wait() == 0, again.output
    last = [line for line in again.output.splitlines() if line.startswith("round ")]
    assert "round  60 |" in last[-1]
    assert not any(line.startswith("round   0") for line in last)
    assert whole.results["last"]["test"] == again.results["last"]["test"]
    for name in ("runs/first/shared_prompt.safetensors", "private/demo/first"):
        assert _bits(whole.home / name) == _bits(again.home / name)
    rounds = [r["round"] for r in _records(again.home / "runs/first/metrics.jsonl")]
    assert rounds == list(range(61))


def _records(metrics: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def _bits(path: Path) -> dict[str, tuple[dict[str, str], dict[str, bytes]]]:
    """Return metadata and tensors of each file: safetensors orders metadata at random."""
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    assert files
    found = {}
    for file in files:
        with safe_open(file, framework="numpy") as content:
            tensors = {name: content.get_tensor(name).tobytes() for name in content.keys()}  # noqa: SIM118
            found[str(file.relative_to(path))] = (dict(content.metadata()), tensors)
    return found


def test_nothing_is_started_for_a_run_that_cannot_work(launch: Launch) -> None:
    one = launch("one", "run", "data=folder", "data.path=no-such-folder")
    assert one.wait() == 1
    assert "no-such-folder" in one.output
    assert one.output.count("\n") == 1
    assert not (one.home / "runs").exists()
