"""A client's image features: from the caches, and from the image tower what is missing there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client_app.site_log import SiteLog
from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.federated import ClientData
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import EVAL_PARTS

if TYPE_CHECKING:
    from fedrsclip_core.clip.image_encoder import ImageEncoder

PARTS = ("train", *EVAL_PARTS)
_ENCODE_BATCH = 32


@dataclass(frozen=True)
class ClientFeatures:
    """Reads one client's features; encodes those that are missing.

    Attributes
    ----------
    data : ClientData
        The client's images and their split.
    files : ClipFiles
        Which CLIP.
    reading : Reading
        How images become RGB.
    device : str
        Torch's name of where it is.
    image_encoder : Callable[[], ImageEncoder]
        Loads its image side; called for missing features only.
    max_unreadable : float
        Fraction of the images that may be unreadable.
    log : SiteLog
        Told about skipped images, repaired entries and progress.
    """

    data: ClientData
    files: ClipFiles
    reading: Reading
    device: str
    image_encoder: "Callable[[], ImageEncoder]"
    max_unreadable: float
    log: SiteLog

    def sets(self, *, with_patches: bool) -> dict[str, FeatureSet]:
        """Return the features of all parts; those of patches only if the method needs them.

        All parts in one call: a few unreadable images weigh against everything that is here.

        Raises
        ------
        DataError
            If too many images cannot be read, or a cache cannot be used.
        """
        for name, why in self.data.source.left_out:
            self.log.write(f"not read: {name} {why}")
        split = self.data.split
        features, kept = self._pooled(np.concatenate([getattr(split, part) for part in PARTS]))
        patches = None
        if with_patches:
            patches, readable = self._patches(kept)
            features, kept = features[np.isin(kept, readable)], readable
        labels = self.data.source.labels[kept]
        rows = {part: np.isin(kept, getattr(split, part)) for part in PARTS}
        return {
            part: FeatureSet(
                features[here], labels[here], None if patches is None else patches[here]
            )
            for part, here in rows.items()
        }

    def _pooled(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return image features ``(N, dim)`` and the indices that could be read."""
        cache = FeatureCache.of_images(paths.features_dir(), self.files, self.reading)
        return self._cached(cache, indices, lambda: pooled(self.image_encoder()), "features")

    def _patches(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Return patch features ``(N, V, dim)`` and the indices that could be read."""
        cache = FeatureCache.of_patches(paths.features_dir(), self.files, self.reading)
        patches, kept = self._cached(
            cache, indices, lambda: by_patch(self.image_encoder()), "patch features"
        )
        return patches.reshape(-1, self.files.num_patches, self.files.dim), kept

    def _cached(
        self,
        cache: FeatureCache,
        indices: NDArray[np.int64],
        load: Callable[[], Encoding],
        what: str,
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        return cache.features(
            self.data.source,
            indices,
            load,
            batch_size=_ENCODE_BATCH,
            max_unreadable=self.max_unreadable,
            on_event=self.log.write,
            progress=self.log.progress(f"images that have their {what}"),
            device=self.device,
        )


def pooled(encoder: "ImageEncoder") -> Encoding:
    """Return how images become their features ``(dim,)``, as their cache keeps them."""
    in_bfloat16 = encoder.files.dtype == "bfloat16"
    return Encoding(encoder.prepare, encoder.embeds if in_bfloat16 else encoder.encode)


def by_patch(encoder: "ImageEncoder") -> Encoding:
    """Return how images become the features of their patches ``(V * dim,)``."""
    return Encoding(
        encoder.prepare,
        lambda prepared: encoder.encode_patches(prepared).reshape(len(prepared), -1),
    )
