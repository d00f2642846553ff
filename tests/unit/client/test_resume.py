"""Real clients in a run that is interrupted: shared and private prompts end with equal bits."""

from pathlib import Path
from typing import Any

import pytest

from client_app import rounds
from client_app.app import app as client_app
from fedrsclip.bench.inprocess import InProcessGrid
from fedrsclip_core.config.compose import from_run_config, join_overrides
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import RoundReply
from server_app import app as server
from tests.unit.client.site_folder import OVERRIDES

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.pictures, "attempt", lambda *args: None)


def go(images: Path, clip: Path, *overrides: str) -> None:
    run_config = {"hydra-overrides": join_overrides([*OVERRIDES, *overrides])}
    site = {"num-partitions": 2, "data-path": str(images), "model-path": str(clip)}
    nodes: list[dict[str, Any]] = [{"partition-id": number, **site} for number in range(2)]
    grid = InProcessGrid(client_app, nodes, run_config)
    server.run(grid, from_run_config(run_config), run_id=1, echo=lambda line: None)


def bits(name: str) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    private = sorted((paths.home() / "private" / "demo" / name).rglob("*.safetensors"))
    assert len(private) == 6
    files = [paths.runs_dir() / name / "shared_prompt.safetensors", *private]
    return {
        f"{file.parent.name}/{file.name}/{key}".replace(name, "run"): array.tobytes()
        for file in files
        for key, array in load_file(file).items()
    }


@pytest.mark.parametrize(
    ("method", "server_round", "after_training"),
    [
        *(("fedrsclip", number, after) for number in (1, 3) for after in (False, True)),
        ("fedotp", 3, True),
        ("fedpgp", 3, True),
    ],
)
def test_prompts_of_both_kinds_end_with_equal_bits(
    image_folder: Path,
    clip_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    server_round: int,
    after_training: bool,
) -> None:
    strategy = (f"method={method}", "strategy=fedavgm", "strategy.server_momentum=0.9")
    go(image_folder, clip_folder, *strategy, "run.name=whole")

    train = rounds.train
    interrupted = []

    def fatal(runtime: Any, request: Any, deadline: Any, log: Any) -> RoundReply:
        last = runtime.site.partition_id == 1 and request.server_round == server_round
        if last and not interrupted:
            if after_training:
                train(runtime, request, deadline, log)
            interrupted.append(request.server_round)
            raise KeyboardInterrupt
        return train(runtime, request, deadline, log)

    monkeypatch.setattr(rounds, "train", fatal)
    with pytest.raises(KeyboardInterrupt):
        go(image_folder, clip_folder, *strategy, "run.name=parts")
    go(image_folder, clip_folder, *strategy, "run.name=parts")
    assert interrupted == [server_round]
    assert bits("whole") == bits("parts")
