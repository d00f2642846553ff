"""Features of streamed images, encoded in one pass before a simulation shares them out."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from client_app.encoders import image_encoder, pick_device, release_image_encoder
from client_app.features import by_patch, pooled
from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import TRANSPORT, Config
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.runs import paths

if TYPE_CHECKING:
    from fedrsclip_core.clip.image_encoder import ImageEncoder

_BATCH = 32
_AT_ONCE = 8192
"""Images whose features are in memory together."""


def encode_once(
    config: Config, files: ClipFiles, source: ImageSource, echo: Callable[[str], None]
) -> None:
    """Encode every image that has no feature yet, in row order.

    Otherwise each client would read the whole stream for its own images.

    Parameters
    ----------
    config : Config
        The run's, with this machine's device.
    files : ClipFiles
        The CLIP.
    source : ImageSource
        The images.
    echo : Callable[[str], None]
        Prints a line.

    Raises
    ------
    DataError
        If too many images cannot be read.
    RunError
        If the stream breaks off; what was encoded until then is kept.
    """
    echo(f"{len(source)} images are read from a stream; features that are here already are kept")
    federation = config.federation
    # As its clients, from which a simulation hides the GPU unless they get a share of it.
    device = pick_device(federation.device if federation.client_gpus else "cpu")

    def loaded(encoding: "Callable[[ImageEncoder], Encoding]") -> Encoding:
        return encoding(image_encoder(files, device))

    place = paths.features_dir(), files, reading_of(config.data)
    caches = [(FeatureCache.of_images(*place), pooled)]
    if config.prompt.fusion == TRANSPORT:
        caches.append((FeatureCache.of_patches(*place), by_patch))
    for cache, encoding in caches:
        for first in range(0, len(source), _AT_ONCE):
            cache.features(
                source,
                np.arange(first, min(first + _AT_ONCE, len(source))),
                partial(loaded, encoding),
                batch_size=_BATCH,
                max_unreadable=config.data.max_unreadable,
                on_event=echo,
                device=device,
            )
    release_image_encoder()
