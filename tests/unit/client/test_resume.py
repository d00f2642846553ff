"""Real clients in a run that is interrupted: shared and private prompts end with equal bits."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from client_app.app import app as client_app
from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.compose import compose
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import TRAIN
from server_app import app as server
from tests.unit.client.site_folder import OVERRIDES

pytestmark = pytest.mark.unit


class Dying(InProcessGrid):
    """The machine goes down with the second client's train message of a round."""

    dies_in: int | None = None
    after_training = False

    def answer(self, message: Message) -> Message | None:
        last = self.contexts[message.metadata.dst_node_id].node_config["partition-id"] == 1
        if last and message.metadata.message_type == TRAIN:
            number = message.content.config_records["config"]["server-round"]
            if number == self.dies_in:
                if self.after_training:
                    super().answer(message)
                raise KeyboardInterrupt
        return super().answer(message)


def go(
    images: Path,
    clip: Path,
    *overrides: str,
    dies_in: int | None = None,
    after_training: bool = False,
) -> None:
    site = {"num-partitions": 2, "data-path": str(images), "model-path": str(clip)}
    nodes: list[dict[str, Any]] = [{"partition-id": number, **site} for number in range(2)]
    grid = Dying(client_app, nodes)
    grid.dies_in, grid.after_training = dies_in, after_training
    config = compose([*OVERRIDES, *overrides])
    server.run(server.exchange_of(grid), config, run_id=1, echo=lambda line: None)


def bits(name: str) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    private = sorted((paths.home() / "private" / "demo" / name).rglob("*.safetensors"))
    assert len(private) == 2 * (3 + 1)
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
        ("fedrsclip_plus", 3, True),
    ],
)
def test_prompts_of_both_kinds_end_with_equal_bits(
    image_folder: Path,
    clip_folder: Path,
    method: str,
    server_round: int,
    after_training: bool,
) -> None:
    strategy = (f"method={method}", "strategy=fedavgm", "strategy.server_momentum=0.9")
    go(image_folder, clip_folder, *strategy, "run.name=whole")

    parts = (image_folder, clip_folder, *strategy, "run.name=parts")
    with pytest.raises(KeyboardInterrupt):
        go(*parts, dies_in=server_round, after_training=after_training)
    go(*parts)
    assert bits("whole") == bits("parts")
