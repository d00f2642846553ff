"""What one message needs of this site, each part made when first asked for.

In a simulation one process serves many messages of several clients: what was opened stays open,
text tower and image encoder are there once per process. In a deployment each message is a new
process, often one that starts cold, so nothing is imported before it is needed.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from client_app.encoders import (
    image_encoder,
    limit_gpu_memory,
    model_errors,
    pick_device,
    text_model,
)
from client_app.features import PARTS, ClientFeatures
from client_app.policy import read_policy
from client_app.private_format import PrivateFormat
from client_app.site import Site, client_name, partition_id, read_site
from client_app.site_log import SiteLog
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.offset_basis import offset_basis
from fedrsclip_core.config.reading import Reading, reading_of, with_own_reading
from fedrsclip_core.config.resolved import from_json
from fedrsclip_core.config.schema import TRANSPORT, Config
from fedrsclip_core.config.shared_tensors import Shapes, shared_shapes
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.federated import ClientData, open_client_data
from fedrsclip_core.data.names import words_for
from fedrsclip_core.errors import DataError
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.prompts import initial_prompt, initial_weight
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.digests import class_digest, code_digest, config_digest
from fedrsclip_core.wire.messages import DIGEST_PARTS, Identity

if TYPE_CHECKING:
    from fedrsclip_core.clip.text_model import TextModel
    from fedrsclip_core.learning.dual_prompt import Given

_OPENED: "dict[tuple[str, str], OpenRun]" = {}
"""The process cache: the newest run, by configuration and home."""


class OpenRun:
    """A run in this process: what its clients have in common, and their runtimes.

    All runtimes are kept, since each has its own part of the images: what they hold together
    hardly grows with their number, and a bound below it would open every client again in every
    round.

    Parameters
    ----------
    config : Config
        The run's configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.config_digest = config_digest(config)
        self._files: dict[Path | None, ClipFiles] = {}
        self._clients: dict[Site, Runtime] = {}

    def client(self, site: Site) -> "Runtime":
        """Return a client's runtime, opened earlier or now."""
        if site not in self._clients:
            self._clients[site] = Runtime(self, site)
        return self._clients[site]

    def files(self, model_path: Path | None) -> ClipFiles:
        """Return the files of the CLIP that a site has there, identified once."""
        if model_path not in self._files:
            with model_errors():
                self._files[model_path] = find_clip(self.config.model, model_path)
        return self._files[model_path]


class Runtime:
    """One client's view of one run's configuration.

    Parameters
    ----------
    run : OpenRun
        The run, with what other clients in this process have found out.
    site : Site
        The site's facts.
    """

    def __init__(self, run: OpenRun, site: Site) -> None:
        self.config = run.config
        self._run = run
        self.site = site
        self._features: dict[str, FeatureSet] = {}
        self._statistics: ClassStatistics | None = None

    @property
    def files(self) -> ClipFiles:
        """The CLIP's files."""
        return self._run.files(self.site.model_path)

    @cached_property
    def data(self) -> ClientData:
        """The client's images and their split; opened again if asked for after the features."""
        return open_client_data(
            self.local_config,
            self.site.data_path,
            partition_id=self.site.partition_id,
            num_partitions=self.site.num_partitions,
        )

    @cached_property
    def local_config(self) -> Config:
        """The run's configuration, with this site's own words of how its images are read."""
        if not self.site.own_reading:
            return self.config
        data = with_own_reading(self.config.data, dict(self.site.own_reading))
        return replace(self.config, data=data)

    @cached_property
    def reading(self) -> Reading:
        """How images become RGB here."""
        return reading_of(self.local_config.data)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The federation's classes."""
        return tuple(self.data.class_names)

    @cached_property
    def split_digest(self) -> str:
        """Digest of the split of all images; empty where each client splits its own."""
        return self.data.split_digest

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The class names as the text encoder reads them."""
        return tuple(words_for(self.class_names, self.config.data.class_words))

    @cached_property
    def class_digest(self) -> str:
        """Digest of class names and words."""
        return class_digest(self.class_names, self.words)

    @cached_property
    def device(self) -> str:
        """The torch device, of which this process takes no more than the site's policy says."""
        device = pick_device(self.site.device)
        share = read_policy().gpu_memory_share
        if share is not None:
            limit_gpu_memory(device, share)
        return device

    @property
    def text(self) -> "TextModel":
        """The text tower of this CLIP and these classes; one per process."""
        prompt = self.config.prompt
        templates = tuple(prompt.templates)
        return text_model(self.files, self.words, prompt.vectors, templates, self.device)

    def start_prompt(self, init: str, *key: str | int) -> NDArray[np.float32]:
        """Start a prompt ``(n_ctx, width)`` as ``prompt.shared_init`` or ``private_init`` says."""
        prompt = self.config.prompt
        with model_errors():
            return initial_prompt(self.files, init, prompt.n_ctx, prompt.init_std, *key)

    @property
    def shared_shapes(self) -> Shapes:
        """The shapes of what is shared."""
        return shared_shapes(
            self.config.prompt,
            n_cls=len(self.words),
            width=self.files.width,
            dim=self.files.dim,
        )

    @property
    def private_format(self) -> PrivateFormat:
        """What this client's private files must fit."""
        prompt = self.config.prompt
        fusion = prompt.fusion if prompt.has_shared else "fixed"
        weight = initial_weight(fusion, prompt.beta, len(self.words))
        return PrivateFormat(
            clip=self.files.fingerprint,
            classes=self.class_digest,
            n_ctx=prompt.n_ctx if prompt.private else 0,
            width=self.files.width,
            fusion=fusion,
            gate_size=0 if weight is None else len(weight),
            rank=prompt.private_rank or 0,
            offset_classes=len(self.words) if prompt.private_offsets else 0,
            dim=self.files.dim if prompt.private_offsets else 0,
        )

    def features(self, part: str, log: SiteLog) -> FeatureSet:
        """Return the features of ``"train"``, ``"val"`` or ``"test"``, encoding what is missing.

        Raises
        ------
        DataError
            If too many images cannot be read, or none is left to train on.
        """
        if not self._features:
            self._features = self._encoded(log)
            _ = self.class_names, self.split_digest
            # It lists the images of all clients, of which a simulation has many.
            del self.data
        return self._features[part]

    def statistics(self, log: SiteLog) -> ClassStatistics:
        """Return what the training images say of the classes, computed once."""
        if self._statistics is None:
            self._statistics = ClassStatistics(self.features("train", log), len(self.words))
        return self._statistics

    def given(self, log: SiteLog) -> "Given":
        """Return what this client's text features are made of and is not learned."""
        from fedrsclip_core.learning.dual_prompt import Given

        prompt = self.config.prompt
        log_prior = self.statistics(log).log_prior if prompt.class_prior else None
        return Given(self.text.zero_shot, log_prior, self._basis)

    def identity(self, *, label_counts: bool = False) -> Identity:
        """Say who this client is; after the preparation without unreadable images.

        Parameters
        ----------
        label_counts : bool
            Whether to tell the training images per class, if ``privacy.share_label_counts``.
        """
        labels = {part: self._labels(part) for part in PARTS}
        counts: tuple[int, ...] = ()
        if label_counts and self.config.privacy.share_label_counts:
            per_class = np.bincount(labels["train"], minlength=len(self.class_names))
            counts = tuple(int(n) for n in per_class)
        return Identity(
            client_name=self.site.client_name,
            partition_id=self.site.partition_id,
            num_partitions=self.site.num_partitions,
            digests=self.digests(),
            n_ctx=self.config.prompt.n_ctx,
            width=self.files.width,
            dim=self.files.dim,
            num_classes=len(self.words),
            num_train=len(labels["train"]),
            num_val=len(labels["val"]),
            num_test=len(labels["test"]),
            label_counts=counts,
        )

    def digests(self) -> dict[str, str]:
        """Return what the federation must agree on, by part."""
        return {
            "code": code_digest(),
            "config": self._run.config_digest,
            "clip": self.files.digest,
            "classes": self.class_digest,
            "split": self.split_digest,
        }

    @property
    def _basis(self) -> NDArray[np.float32] | None:
        size = self.config.prompt.basis_size(
            n_cls=len(self.words), width=self.files.width, dim=self.files.dim
        )
        return None if size is None else offset_basis(self.files, size)

    def _labels(self, part: str) -> NDArray[np.int64]:
        if part in self._features:
            return self._features[part].labels
        indices: NDArray[np.int64] = getattr(self.data.split, part)
        return np.asarray(self.data.source.labels[indices], dtype=np.int64)

    def _encoded(self, log: SiteLog) -> dict[str, FeatureSet]:
        for note in self.data.source.notes:
            log.write(note)
        features = ClientFeatures(
            self.data,
            self.files,
            self.reading,
            self.device,
            lambda: image_encoder(self.files, self.device),
            self.config.data.max_unreadable,
            log,
        )
        if self.site.own_reading:
            log.write(
                f"images are read by this site's own words ({str(self.reading) or 'defaults'}; "
                f"the federation's: {str(reading_of(self.config.data)) or 'defaults'})"
            )
        sets = features.sets(with_patches=self.config.prompt.fusion == TRANSPORT)
        if not len(sets["train"]):
            raise DataError(
                f"client {self.site.client_name} has no readable training image: check the images "
                "under data-path and the partition"
            )
        return sets


def stranger(node_config: Mapping[str, object]) -> Identity:
    """Say who this client is and which code it runs, without a look at anything else."""
    return Identity(
        client_name=client_name(node_config),
        partition_id=partition_id(node_config),
        num_partitions=0,
        digests=dict.fromkeys(DIGEST_PARTS, "") | {"code": code_digest()},
        n_ctx=0,
        width=0,
        dim=0,
        num_classes=0,
        num_train=0,
        num_val=0,
        num_test=0,
    )


def open_runtime(node_config: Mapping[str, object], configuration: str) -> Runtime:
    """Return the runtime of this client in this run, opened earlier or now.

    Parameters
    ----------
    node_config : Mapping[str, object]
        Flower's node configuration.
    configuration : str
        The run's resolved configuration, as it came with the message.

    Raises
    ------
    ConfigError
        If the run's configuration or the node's is unusable.
    """
    config = read_configuration(configuration)
    site = read_site(node_config, num_clients=config.federation.num_clients)
    run = (configuration, str(paths.home()))
    if run not in _OPENED:
        _OPENED.clear()
        _OPENED[run] = OpenRun(config)
    return _OPENED[run].client(site)


@lru_cache(maxsize=4)
def read_configuration(configuration: str) -> Config:
    """Read and check the configuration that came with a message; raises as :func:`from_json`."""
    return from_json(configuration)
