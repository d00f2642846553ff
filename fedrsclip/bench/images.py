"""The image features of all clients, encoded or from the cache, for what the bench computes."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from client_app.features import pooled
from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.runs import paths

_BATCH = 32


def clients_features(
    config: Config, files: ClipFiles, *, parts: tuple[str, ...], first_class: int = 0
) -> Iterator[dict[str, FeatureSet]]:
    """Yield each client's features by part.

    Parameters
    ----------
    config : Config
        A run's, with the site's paths.
    files : ClipFiles
        The CLIP.
    parts : tuple of str
        Among ``"train"``, ``"val"`` and ``"test"``.
    first_class : int
        Images of earlier classes are left out.
    """
    from fedrsclip_core.clip.image_encoder import ImageEncoder

    store = FeatureCache.of_images(paths.features_dir(), files, reading_of(config.data))

    device = config.federation.device or "cpu"

    @cache
    def encoding() -> Encoding:
        return pooled(ImageEncoder(files, device))

    path = Path(config.data.path) if config.data.path else None
    for client in range(config.federation.num_clients):
        data = open_client_data(
            config, path, partition_id=client, num_partitions=config.federation.num_clients
        )
        found = {}
        for part in parts:
            indices = data.split.parts[part]
            features, kept = store.features(
                data.source,
                indices[data.source.labels[indices] >= first_class],
                encoding,
                batch_size=_BATCH,
                max_unreadable=config.data.max_unreadable,
                on_event=lambda _line: None,
                device=device,
            )
            found[part] = FeatureSet(features, data.source.labels[kept])
        yield found


def joined(sets: list[FeatureSet]) -> FeatureSet:
    """Put several sets together."""
    return FeatureSet(
        np.concatenate([one.features for one in sets]),
        np.concatenate([one.labels for one in sets]),
    )
