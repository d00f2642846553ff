"""Few images of a class at a client: what the grid says is what each client has."""

import numpy as np
import pytest

from fedrsclip.bench.cells import grid
from fedrsclip.bench.description import describe
from fedrsclip_core.config.schema import DataConfig
from fedrsclip_core.data.federated import open_client_data

pytestmark = pytest.mark.unit

SEEDS = [0, 7]
ASKED = ["bench=uc_merced_few", f"bench.seeds={SEEDS}", "bench.methods=[zero_shot]"]
ASKED += ["bench.reference=null"]


@pytest.mark.parametrize("images", [1, 2, 4, 8, 16])
def test_each_client_has_so_many_images_of_each_class(images: int) -> None:
    cells = grid(describe([*ASKED, f"bench.settings=[images_{images}]"]))
    assert len(cells) == len(SEEDS)
    for cell in cells:
        config = cell.config
        # A hundred images a class, as in UC Merced, and as many of them to train on.
        data, scenes = config.data, DataConfig(images_per_class=100)
        scenes.val_fraction, scenes.test_fraction = data.val_fraction, data.test_fraction
        scenes.shots = data.shots
        config.data = scenes
        clients = config.federation.num_clients
        for k in range(clients):
            found = open_client_data(config, None, partition_id=k, num_partitions=clients)
            train = found.source.labels[found.split.train]
            counts = np.bincount(train, minlength=len(found.class_names))
            assert set(counts) == {images}
            # And it is asked about all of them.
            assert len(set(found.source.labels[found.split.test])) == len(found.class_names)
