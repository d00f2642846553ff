"""The configuration's schema: plain dataclasses with the values that methods build on.

They are those of ``conf/config.yaml`` and of each group's default option. What the default method
says besides, composition adds.

Everything here travels in the submitted run except the keys of a site
(:mod:`fedrsclip_core.config.site_keys`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

DTYPES = ("float32", "bfloat16")
"""Precisions of the frozen towers."""

WIRE_DTYPES = ("float32", "float16", "int8")
"""Precisions in which shared class offsets travel."""

LOCAL, FLOWER = ENGINES = "local", "flower"
"""What carries out a simulation: ``federation.engine``."""

EXAMPLES, EQUAL = "examples", "equal"
"""What a client weighs in the average: ``strategy.weights``."""

FULL, BASIS, RANK = "full", "basis", "rank"
"""The forms of ``prompt.shared_offsets``; the last two with a number, ``basis`` also without."""

SEEDED, PUBLISHED = "seeded", "published"
"""Who has split the images: ``data.split``."""

RANDOM_INIT = "random"
"""The value of ``prompt.shared_init`` and ``prompt.private_init`` that is not words."""

IGNORE = "ignore"
"""The value of ``data.other_classes`` that leaves out classes which the federation has not."""

TRANSPORT = "transport"
"""The value of ``prompt.fusion`` that classifies by an image's patches, without a fused text."""


@dataclass
class ModelConfig:
    """Which frozen CLIP."""

    name: str = "demo_clip"
    hub_id: str | None = None
    revision: str | None = None
    openclip_file: str | None = None
    path: str | None = None
    dtype: str = "float32"


@dataclass
class PromptConfig:
    """Which prompts and class offsets exist, how they start and how they are fused."""

    shared: bool = True
    private: bool = True
    shared_offsets: str | None = None
    shared_offsets_dtype: str = "float32"
    private_offsets: bool = False
    class_prior: bool = False
    n_ctx: int = 4
    shared_init: str = "a photo of a"
    private_init: str = "aerial view of a"
    init_std: float = 0.02
    private_rank: int | None = None
    fusion: str = "class_weight"
    beta: float = 0.8
    transport_mass: float = 0.8
    transport_eps: float = 0.1
    templates: list[str] = field(default_factory=lambda: ["a satellite photo of a {}."])
    finetune_epochs: int = 0
    finetune_lr: float | None = None
    finetune_bias: bool = False

    @property
    def has_shared(self) -> bool:
        """Whether there is something that the server averages."""
        return self.shared or self.shared_offsets is not None

    @property
    def has_private(self) -> bool:
        """Whether there is something that a client trains and keeps."""
        return self.private or self.private_offsets

    @property
    def vectors(self) -> int:
        """Learned vectors in front of a class name; 0 where no prompt is learned."""
        return self.n_ctx if self.shared or self.private else 0

    @property
    def offsets_rank(self) -> int | None:
        """The rank of the shared class offsets; ``None`` if they are full or there are none."""
        name, _, rank = (self.shared_offsets or "").partition(":")
        return int(rank) if name == RANK else None

    def basis_size(self, *, n_cls: int, width: int, dim: int) -> int | None:
        """Directions of the basis of the shared class offsets; ``None`` if they have none.

        Without a number, as many as make no more numbers than a prompt of ``n_ctx`` vectors has.
        """
        name, _, size = (self.shared_offsets or "").partition(":")
        if name != BASIS:
            return None
        return int(size) if size else max(1, min(dim, self.n_ctx * width // n_cls))


@dataclass
class LossConfig:
    """Weights and forms of the loss terms."""

    lambda_fused: float = 1.0
    lambda_shared: float = 1.0
    lambda_private: float = 0.0
    lambda_dpac: float = 0.1
    lambda_cmfac: float = 0.3
    lambda_contrast: float = 0.0
    contrast_temperature: float = 0.5
    dpac_form: str = "all"
    cmfac_form: str = "pull"
    shared_gradient: str = "coupled"


@dataclass
class OptimizerConfig:
    """The client's optimizer; its state is new in each message."""

    name: str = "sgd"
    lr: float = 0.1
    private_lr: float | None = 0.6
    offsets_lr: float | None = None
    private_offsets_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    batch_size: int = 32
    local_epochs: int = 1
    threads: int = 1


@dataclass
class DataConfig:
    """Where images come from and which classes the federation has."""

    name: str = "demo_scenes"
    path: str | None = None
    hub_id: str | None = None
    hub_revision: str | None = None
    hub_config: str | None = None
    streaming: bool = False
    train_splits: list[str] = field(default_factory=list)
    val_splits: list[str] = field(default_factory=list)
    test_splits: list[str] = field(default_factory=list)
    image_column: str | None = None
    label_column: str | None = None
    class_names: list[str] = field(default_factory=list)
    class_words: dict[str, str] = field(default_factory=dict)
    class_aliases: dict[str, str] = field(default_factory=dict)
    other_classes: str = "refuse"
    near_duplicates: list[list[str]] = field(default_factory=list)
    bands: list[str] = field(default_factory=list)
    stretch: list[str] = field(default_factory=list)
    nodata: float | None = None
    images_per_class: int = 100
    shots: int | None = None
    split: str = SEEDED
    split_name: str | None = None
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    max_unreadable: float = 0.05


@dataclass
class PartitionConfig:
    """How a simulation deals images to clients; ``site``: each client's folder is its own.

    ``given``: as folders or a list say.
    """

    name: str = "heterogeneous"
    num_classes_per_partition: int | None = None
    alpha: float = 0.5
    datasets: list[str] = field(default_factory=list)


@dataclass
class FederationConfig:
    """The federation's topology and time limits."""

    name: str = "demo"
    num_rounds: int = 10
    num_clients: int = 4
    fraction_train: float = 1.0
    min_clients: int | None = None
    min_replies: int = 1
    max_failed_rounds: int = 3
    max_prompt_norm: float = 1000.0
    eval_every: int = 5
    engine: str = LOCAL
    ray_address: str | None = None
    client_cpus: int = 1
    client_gpus: float = 0.0
    device: str | None = None
    connect_timeout: float = 300.0
    prepare_timeout: float = 3600.0
    round_timeout: float = 600.0
    address: str = "127.0.0.1"
    port: int = 8443
    superlink_port: int = 8000
    alt_names: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    insecure: bool = False
    insecure_remote: bool = False


@dataclass
class StrategyConfig:
    """Which of Flower's aggregators, with its own parameter names."""

    name: str = "fedavg"
    weights: str = EXAMPLES
    max_weight_share: float | None = None
    max_update_ratio: float | None = None
    proximal_mu: float = 0.0
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    eta: float | None = None
    eta_l: float | None = None
    beta_1: float | None = None
    beta_2: float | None = None
    tau: float | None = None
    beta: float | None = None
    num_malicious_nodes: int | None = None
    num_nodes_to_select: int | None = None


@dataclass
class PrivacyConfig:
    """What, besides the shared prompt and sums, a client tells the server."""

    share_label_counts: bool = False


@dataclass
class RunConfig:
    """Which run this is, how it starts and what it writes."""

    name: str | None = None
    resume: bool = False
    shared_init_from: str | None = None
    private_init_from: str | None = None
    private_aside: bool = False
    tensorboard: bool = False


@dataclass
class Config:
    """The composed configuration of one run."""

    method: str = "fedrsclip"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    run: RunConfig = field(default_factory=RunConfig)


@cache
def keys() -> dict[str, Any]:
    """Return the types of all keys, by ``group.key``."""
    return dict(_walk(Config, ""))


def type_name(hint: Any) -> str:
    """Name a key's type in a sentence."""
    inner = [kind for kind in get_args(hint) if kind is not type(None)]
    if hint in _TYPE_NAMES:
        return _TYPE_NAMES[hint]
    if type(None) in get_args(hint):
        return f"{type_name(inner[0])} or null"
    if len(inner) == 2:
        return "a mapping from text to text"
    return "a list of texts" if inner[0] is str else "a list of lists of texts"


def _walk(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(kind)
    for item in fields(kind):
        hint = hints[item.name]
        if is_dataclass(hint):
            yield from _walk(hint, f"{prefix}{item.name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{item.name}", hint


_TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
