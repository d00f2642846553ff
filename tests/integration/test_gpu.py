"""A simulation whose clients share a CUDA device."""

import pytest
import torch

from fedrsclip_core.runs.run_folder import RunFolder
from tests.integration.launched import SMALL, Launch

pytestmark = [
    pytest.mark.integration,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

RUN = "placed"
PLACES = {
    "cpu": ["federation.device=cpu"],
    "cuda": ["federation.device=cuda", "federation.client_gpus=0.25"],
}


@pytest.mark.parametrize("engine", ["local", "flower"])
def test_clients_that_share_a_card_train_as_on_the_cpu(launch: Launch, engine: str) -> None:
    losses = []
    for place, settings in PLACES.items():
        common = [*SMALL, f"run.name={RUN}", f"federation.engine={engine}"]
        one = launch(place, "run", *common, *settings)
        assert one.wait() == 0, one.output
        assert one.results["status"] == "completed"
        rounds = RunFolder(one.home / "runs" / RUN).rounds().read()
        losses.append([record["loss"]["loss"] for record in rounds if record["round"] > 0])
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
