"""What client and server tell each other, as plain data; :mod:`records` puts it on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fedrsclip_core.config.shared_tensors import SharedTensors

PROTOCOL_VERSION = 4

QUERY_IDENTITY = "query.identity"
QUERY_PREPARE = "query.prepare"
QUERY_INIT = "query.init"
TRAIN = "train"
EVALUATE = "evaluate"

DIGEST_PARTS = ("code", "config", "clip", "classes", "split")
LOSS_TERMS = (
    "loss",
    "loss-fused",
    "loss-shared",
    "loss-private",
    "loss-dpac",
    "loss-cmfac",
    "loss-contrast",
)
MOST_IMAGES = 10_000_000
"""Of one part at one client."""
MOST_PARTITIONS = 1_000_000
LARGEST_SIZE = 2**15
"""Of a prompt, of CLIP's vectors, and the number of classes."""
LARGEST_LOSS = 1e9

EVAL_PARTS = ("val", "test")
EVAL_MODES = ("zero-shot", "global", "personalized", "personalized-own")

CALIBRATION_FACTORS = tuple(10 ** (k / 20 - 1) for k in range(41))
"""Of CLIP's inverse temperature, at which a last evaluation sums up cross-entropies."""
LARGEST_CROSS_ENTROPY = 1e6
"""Of an image; at ten times the inverse temperature of published CLIPs, 100, it is some 2000."""
FEWEST_CALIBRATING = 10
"""Validation images without which a client tells no such sums: of one they would tell much."""


class FailureCode(StrEnum):
    """Why a client could not do what a message asked: all that a server may learn."""

    CONFIGURATION = "configuration"
    POLICY = "policy"
    DATA = "data"
    MODEL = "model"
    PRIVATE_STORE = "private-store"
    PROTOCOL = "protocol"
    LATE = "late"
    DISK = "disk"
    DEVICE = "device"
    NON_FINITE = "non-finite"
    INTERNAL = "internal"


class ClientFailure(Exception):  # noqa: N818 - Flower prints the class name at the server
    """The only exception that leaves a handler: a code of the closed list, no text, no cause."""

    def __init__(self, code: FailureCode | str) -> None:
        self.code = FailureCode(code)  # a text when unpickled
        super().__init__(self.code.value)


@dataclass(frozen=True)
class Identity:
    """What a client says of itself, once.

    ``digests`` has an entry for each of :data:`DIGEST_PARTS`; an empty string means that the
    part is a site's own business (the split under the ``site`` partition) or was not looked at.
    To a server whose code or configuration differs a client tells neither images nor model: all
    sizes of these are 0. ``label_counts`` (training images per class) comes with the preparation
    only, and is empty unless ``privacy.share_label_counts``.
    """

    client_name: str
    partition_id: int
    num_partitions: int
    digests: Mapping[str, str]
    n_ctx: int
    width: int
    dim: int
    num_classes: int
    num_train: int
    num_val: int
    num_test: int
    label_counts: tuple[int, ...] = ()
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class RoundRequest:
    """What the server asks in a train or evaluate message.

    ``shared`` is empty where the method shares nothing.
    ``final`` marks the last evaluation, in which fine-tuned variants are measured.
    """

    server_round: int
    run_name: str
    shared: SharedTensors
    final: bool = False
    proximal_mu: float = 0.0


@dataclass(frozen=True)
class RoundReply:
    """A client's answer: the trained shared tensors (train only) and sums.

    ``correct`` and ``total`` map ``(part, mode)`` and ``part`` to counts of images; modes without
    a meaning are absent. They describe what is shared as received with what is private as
    stored, before any training. ``losses`` holds a mean over steps for each of
    :data:`LOSS_TERMS` and is empty for an evaluation. ``cross_entropies`` comes with the last
    evaluation only: the global classifier's over the validation images, summed, at each of
    :data:`CALIBRATION_FACTORS`; empty with fewer than :data:`FEWEST_CALIBRATING` of them.
    """

    num_examples: int
    seconds: float
    shared: SharedTensors = field(default_factory=dict)
    num_steps: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    correct: Mapping[tuple[str, str], int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    cross_entropies: tuple[float, ...] = ()
