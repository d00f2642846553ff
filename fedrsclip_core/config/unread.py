"""Which keys the chosen options read: one that is given and read by nobody is a mistake.

Whoever gives ``data.path`` and forgets ``data=folder`` would get the figures of other images. What
recipes, methods and tuned values set is no such mistake: it is there for the options that read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedrsclip_core.config.overrides import split_override
from fedrsclip_core.config.schema import PUBLISHED, RANDOM_INIT, TRANSPORT, Config, PromptConfig
from fedrsclip_core.errors import ConfigError

_UNSET = ("", "null", "false", "[]", "{}")


@dataclass(frozen=True)
class Reader:
    """Who reads some keys.

    Attributes
    ----------
    keys : tuple of str
        The keys.
    reads : Callable[[Config], bool]
        Whether a configuration reads them.
    wanted : str
        What does, for a sentence.
    because : tuple of str
        The keys that decide it.
    """

    keys: tuple[str, ...]
    reads: Callable[[Config], bool]
    wanted: str
    because: tuple[str, ...]


def _trains(config: Config) -> bool:
    return config.prompt.has_shared or config.prompt.has_private


def _fuses(config: Config) -> bool:
    return config.prompt.has_shared and config.prompt.has_private


def _has_own_start(config: Config) -> bool:
    prompt = config.prompt
    return prompt.private and prompt.private_rank is None and config.run.private_init_from is None


def _draws_a_start(config: Config) -> bool:
    prompt = config.prompt
    starts = [prompt.shared_init] * prompt.shared + [prompt.private_init] * _has_own_start(config)
    return RANDOM_INIT in starts


def _has_vectors(prompt: PromptConfig) -> bool:
    return prompt.shared or prompt.private or prompt.shared_offsets == "basis"


READERS = (
    Reader(
        ("data.path",),
        lambda config: config.data.name in ("folder", "hub"),
        "data=folder or data=hub",
        ("data.name",),
    ),
    Reader(
        ("data.hub_id", "data.hub_revision"),
        lambda config: config.data.name == "hub" and config.data.path is None,
        "data=hub without data.path",
        ("data.name", "data.path"),
    ),
    Reader(
        (
            "data.image_column",
            "data.label_column",
            "data.hub_config",
            "data.streaming",
            "data.train_splits",
            "data.val_splits",
            "data.test_splits",
        ),
        lambda config: config.data.name == "hub",
        "data=hub",
        ("data.name",),
    ),
    Reader(
        (
            "data.class_aliases",
            "data.max_unreadable",
            "data.bands",
            "data.stretch",
            "data.nodata",
        ),
        lambda config: config.data.name in ("folder", "hub"),
        "data=folder or data=hub",
        ("data.name",),
    ),
    Reader(
        ("data.split_name",),
        lambda config: config.data.name == "folder" and config.data.split == PUBLISHED,
        "data=folder with data.split=published",
        ("data.name", "data.split"),
    ),
    Reader(
        ("data.near_duplicates", "data.other_classes"),
        lambda config: config.data.name == "folder",
        "data=folder",
        ("data.name",),
    ),
    Reader(
        ("data.images_per_class",),
        lambda config: config.data.name == "demo_scenes",
        "data=demo_scenes",
        ("data.name",),
    ),
    Reader(
        ("partition.num_classes_per_partition",),
        lambda config: config.partition.name == "heterogeneous",
        "partition=heterogeneous",
        ("partition.name",),
    ),
    Reader(
        ("partition.alpha",),
        lambda config: config.partition.name == "dirichlet",
        "partition=dirichlet",
        ("partition.name",),
    ),
    Reader(
        ("partition.datasets",),
        lambda config: config.partition.name == "by_dataset",
        "partition=by_dataset",
        ("partition.name",),
    ),
    Reader(
        ("model.hub_id",),
        lambda config: config.model.path is None,
        "a run without model.path, which wins over it,",
        ("model.path",),
    ),
    Reader(
        ("model.revision",),
        lambda config: config.model.hub_id is not None and config.model.path is None,
        "a model of the hub",
        ("model.hub_id", "model.path"),
    ),
    Reader(
        ("prompt.n_ctx",),
        lambda config: _has_vectors(config.prompt),
        "a method with a prompt, or with offsets in as large a basis,",
        ("prompt.shared", "prompt.private", "prompt.shared_offsets"),
    ),
    Reader(
        ("prompt.shared_init",),
        lambda config: config.prompt.shared,
        "a method with a shared prompt",
        ("prompt.shared",),
    ),
    Reader(
        ("prompt.private_init",),
        _has_own_start,
        "a private prompt with a start of its own",
        ("prompt.private", "prompt.private_rank", "run.private_init_from"),
    ),
    Reader(
        ("prompt.init_std",),
        _draws_a_start,
        "a prompt whose start is random",
        ("prompt.shared_init", "prompt.private_init"),
    ),
    Reader(
        ("prompt.fusion", "loss.shared_gradient"),
        _fuses,
        "a method with a shared and a private side",
        ("method",),
    ),
    Reader(
        ("prompt.beta",),
        lambda config: _fuses(config) and config.prompt.fusion != TRANSPORT,
        "a method that fuses a shared and a private side",
        ("method", "prompt.fusion"),
    ),
    Reader(
        ("prompt.transport_mass", "prompt.transport_eps"),
        lambda config: config.prompt.fusion == TRANSPORT,
        "prompt.fusion=transport",
        ("prompt.fusion",),
    ),
    Reader(
        ("prompt.finetune_lr",),
        lambda config: config.prompt.finetune_epochs > 0,
        "prompt.finetune_epochs above 0",
        ("prompt.finetune_epochs",),
    ),
    Reader(
        ("loss.contrast_temperature",),
        lambda config: config.loss.lambda_contrast > 0,
        "loss.lambda_contrast above 0",
        ("loss.lambda_contrast",),
    ),
    Reader(
        ("loss.dpac_form",),
        lambda config: config.loss.lambda_dpac > 0,
        "loss.lambda_dpac above 0",
        ("loss.lambda_dpac",),
    ),
    Reader(
        ("loss.cmfac_form",),
        lambda config: config.loss.lambda_cmfac > 0,
        "loss.lambda_cmfac above 0",
        ("loss.lambda_cmfac",),
    ),
    Reader(
        (
            "optimizer.name",
            "optimizer.lr",
            "optimizer.weight_decay",
            "optimizer.schedule",
            "optimizer.local_epochs",
        ),
        _trains,
        "a method that trains something",
        ("method",),
    ),
    Reader(
        ("optimizer.momentum",),
        lambda config: config.optimizer.name == "sgd" and _trains(config),
        "optimizer.name=sgd",
        ("optimizer.name", "method"),
    ),
    Reader(
        ("optimizer.private_lr", "run.private_init_from"),
        lambda config: config.prompt.has_private,
        "a method with a private side that is trained",
        ("method",),
    ),
    Reader(
        ("optimizer.offsets_lr",),
        lambda config: config.prompt.shared_offsets is not None,
        "a method with shared class offsets",
        ("prompt.shared_offsets",),
    ),
    Reader(
        ("optimizer.private_offsets_lr",),
        lambda config: config.prompt.private_offsets,
        "a method with private class offsets",
        ("prompt.private_offsets",),
    ),
    Reader(
        ("federation.eval_every",),
        lambda config: config.federation.fraction_train < 1,
        "federation.fraction_train below 1",
        ("federation.fraction_train",),
    ),
    Reader(
        ("strategy.weights", "strategy.max_weight_share"),
        lambda config: config.strategy.name not in ("fedmedian", "fedtrimmedavg", "krum", "bulyan"),
        "an aggregator that weighs clients",
        ("strategy.name",),
    ),
)
"""Keys that not every run reads, and who does; any other key is read by all, or checked."""


def unread_keys(config: Config) -> dict[str, str]:
    """Return the keys that a configuration does not read, with a sentence each."""
    return {
        key: _sentence(key, reader, config)
        for reader in READERS
        if not reader.reads(config)
        for key in reader.keys
    }


def refuse_unread(config: Config, overrides: Sequence[str]) -> None:
    """Refuse a key that is given and that nothing reads.

    Parameters
    ----------
    config : Config
        What the overrides are composed to.
    overrides : Sequence[str]
        Those of a person; a key that is set to null is not given.

    Raises
    ------
    ConfigError
        Naming who reads it.
    """
    unread = unread_keys(config)
    for key, value in map(split_override, overrides):
        # An entry of a mapping is given as <key>.<name>.
        name = ".".join(key.split(".")[:2])
        if name in unread and value not in (None, *_UNSET):
            raise ConfigError(unread[name])


def with_implied_options(overrides: Sequence[str], given: Sequence[str] | None = None) -> list[str]:
    """Add the option that a place implies: a folder of images, a data set of the hub, a CLIP.

    ``data.path`` alone chooses ``data=folder``, ``data.hub_id`` alone ``data=hub`` and
    ``model.path`` alone ``model=local``; whoever names an option or a recipe has chosen.

    Parameters
    ----------
    overrides : Sequence[str]
        All of a run.
    given : Sequence[str], optional
        Those of a person, all by default.
    """
    places = _set_keys(overrides if given is None else given)
    chosen = _set_keys(overrides)
    if "experiment" in chosen:
        return list(overrides)
    implied = []
    if not chosen & {"data", "data.name"}:
        if "data.hub_id" in places:
            implied.append("data=hub")
        elif "data.path" in places:
            implied.append("data=folder")
    if "model.path" in places and not chosen & {"model", "model.name", "model.hub_id"}:
        implied.append("model=local")
    return [*implied, *overrides]


def _set_keys(overrides: Sequence[str]) -> set[str]:
    values = dict(map(split_override, overrides))
    return {key for key, value in values.items() if value not in (None, *_UNSET)}


def _sentence(key: str, reader: Reader, config: Config) -> str:
    reasons = " and ".join(f"{name} is {_value(config, name)}" for name in reader.because)
    return (
        f"{key} is given but this run does not read it: {reader.wanted} would, but {reasons}; "
        f"leave {key} out, or change that"
    )


def _value(config: Config, key: str) -> str:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    # A site's path stays out of sentences.
    if key.endswith(".path"):
        return "not set" if value is None else "set"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
