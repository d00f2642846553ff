"""What a configuration may hold: closed names, ranges and combinations."""

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import (
    BASIS,
    DTYPES,
    ENGINES,
    EQUAL,
    EXAMPLES,
    FLOWER,
    FULL,
    IGNORE,
    PUBLISHED,
    RANDOM_INIT,
    RANK,
    SEEDED,
    TRANSPORT,
    WIRE_DTYPES,
    Config,
    PromptConfig,
)
from fedrsclip_core.config.site_keys import DEVICE, SITE_KEYS
from fedrsclip_core.config.texts import is_plain
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.imported import is_imported
from fedrsclip_core.runs.published import is_hub_id

STRATEGY_PARAMETERS: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedprox": ("proximal_mu",),
    "fedavgm": ("server_learning_rate", "server_momentum"),
    "fedadagrad": ("eta", "eta_l", "tau"),
    "fedadam": ("eta", "eta_l", "beta_1", "beta_2", "tau"),
    "fedyogi": ("eta", "eta_l", "beta_1", "beta_2", "tau"),
    "fedmedian": (),
    "fedtrimmedavg": ("beta",),
    "krum": ("num_malicious_nodes",),
    "multikrum": ("num_malicious_nodes", "num_nodes_to_select"),
    "bulyan": ("num_malicious_nodes",),
}
"""Flower's aggregators by name and which keys of ``strategy`` each one reads."""

_OF_EVERY_STRATEGY = ("name", "weights", "max_weight_share", "max_update_ratio")

_NAMES = {
    "model.dtype": DTYPES,
    "prompt.fusion": ("fixed", "gate", "class_gate", "class_weight", TRANSPORT),
    "prompt.shared_offsets_dtype": WIRE_DTYPES,
    "loss.dpac_form": ("all", "own", "scarce"),
    "loss.cmfac_form": ("pull", "whitened"),
    "loss.shared_gradient": ("coupled", "decoupled"),
    "optimizer.name": ("sgd", "adam", "adamw"),
    "optimizer.schedule": ("constant", "cosine"),
    "data.split": (SEEDED, PUBLISHED),
    "data.name": ("demo_scenes", "folder", "hub"),
    "data.other_classes": ("refuse", IGNORE),
    "federation.engine": ENGINES,
    "partition.name": ("uniform", "heterogeneous", "dirichlet", "by_dataset", "given", "site"),
    "strategy.name": tuple(STRATEGY_PARAMETERS),
    "strategy.weights": (EXAMPLES, EQUAL),
}

_AT_LEAST = {
    "optimizer.lr": 0,
    "optimizer.offsets_lr": 0,
    "seed": 0,
    "prompt.n_ctx": 1,
    "prompt.private_rank": 1,
    # Less leaves float32: exp(-2 / eps) is the smallest factor of a transport plan.
    "prompt.transport_eps": 0.03,
    "prompt.finetune_epochs": 0,
    "loss.lambda_fused": 0,
    "loss.lambda_shared": 0,
    "loss.lambda_private": 0,
    "loss.lambda_dpac": 0,
    "loss.lambda_cmfac": 0,
    "loss.lambda_contrast": 0,
    "optimizer.weight_decay": 0,
    "optimizer.batch_size": 1,
    "optimizer.local_epochs": 1,
    "optimizer.threads": 1,
    "data.images_per_class": 3,
    "data.shots": 1,
    "partition.num_classes_per_partition": 1,
    "federation.num_rounds": 0,
    "federation.num_clients": 1,
    "federation.min_clients": 1,
    "federation.min_replies": 1,
    "federation.max_failed_rounds": 1,
    "federation.eval_every": 1,
    "federation.client_cpus": 1,
    "federation.client_gpus": 0,
    "strategy.max_update_ratio": 1,
    "strategy.proximal_mu": 0,
    "strategy.num_malicious_nodes": 0,
    "strategy.num_nodes_to_select": 1,
}

_ABOVE_ZERO = (
    "prompt.init_std",
    "prompt.finetune_lr",
    "loss.contrast_temperature",
    "optimizer.private_lr",
    "optimizer.private_offsets_lr",
    "partition.alpha",
    "federation.max_prompt_norm",
    "federation.connect_timeout",
    "federation.prepare_timeout",
    "federation.round_timeout",
    "strategy.server_learning_rate",
    "strategy.eta",
    "strategy.eta_l",
    "strategy.tau",
)

_INTERVALS = {
    "seed": "[0, 4294967295]",
    "prompt.beta": "[0, 1]",
    "prompt.transport_mass": "(0, 1]",
    "optimizer.momentum": "[0, 1)",
    "data.val_fraction": "[0, 1)",
    "data.test_fraction": "[0, 1)",
    "data.max_unreadable": "[0, 1]",
    "federation.fraction_train": "(0, 1]",
    "federation.port": "[1, 65535]",
    "federation.superlink_port": "[1, 65535]",
    "strategy.max_weight_share": "(0, 1]",
    "strategy.server_momentum": "[0, 1)",
    "strategy.beta_1": "[0, 1)",
    "strategy.beta_2": "[0, 1)",
    "strategy.beta": "[0, 0.5)",
}

_PROMPTS_OF_TERM = {
    "lambda_fused": ("shared", "private"),
    "lambda_shared": ("shared",),
    "lambda_private": ("private",),
    "lambda_dpac": ("shared", "private"),
    "lambda_cmfac": ("shared", "private"),
    "lambda_contrast": ("shared", "private"),
}

_OFFSETS = re.compile(rf"{FULL}|{BASIS}|({BASIS}|{RANK}):[1-9][0-9]{{0,3}}")
ONE_CLASS = "with one class there is nothing to tell apart, and every figure would be 100 %"
_SHOWN = 60
"""Characters of a text that a sentence repeats."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def validate(config: Config) -> None:
    """Check names, ranges and combinations.

    Raises
    ------
    ConfigError
        One sentence that names the key.
    """
    values = dict(flattened(config))
    _check_numbers(values)
    for key, names in _NAMES.items():
        if values[key] not in names:
            raise ConfigError(f"{key} is {values[key]!r}: choose one of {', '.join(names)}")
    _check_texts(config, values)
    _check_prompts(config)
    _check_data(config)
    _check_by_dataset(config)
    _check_federation(config)
    _check_strategy(config)


def flattened(section: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every key of a configuration with its value, ``group.key`` by ``group.key``."""
    for item in fields(section):  # type: ignore[arg-type]
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from flattened(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


def _check_numbers(values: dict[str, object]) -> None:
    numbers = {
        key: value
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise ConfigError(f"{key} is {value}: it must be a finite number")
        if key in _AT_LEAST and value < _AT_LEAST[key]:
            raise ConfigError(f"{key} is {value}: it must be at least {_AT_LEAST[key]}")
        if key in _ABOVE_ZERO and value <= 0:
            raise ConfigError(f"{key} is {value}: it must be above 0")
        if key in _INTERVALS and not _inside(value, _INTERVALS[key]):
            raise ConfigError(f"{key} is {value}: it must lie in {_INTERVALS[key]}")


def _inside(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low or (value == low and interval[0] == "[")
    below = value < high or (value == high and interval[-1] == "]")
    return above and below


def _check_texts(config: Config, values: dict[str, object]) -> None:
    for key, value in values.items():
        # A site's own paths travel nowhere and may be what they are.
        odd = [] if key in SITE_KEYS else [text for text in _texts(value) if not is_plain(text)]
        if odd:
            raise ConfigError(
                f"{key} has {odd[0][:_SHOWN]!a}: write it without control characters or "
                "invisible ones, in whole characters"
            )
    _check_class_texts(values)
    for key in (
        "run.name",
        "run.private_init_from",
        "federation.name",
        "method",
    ):
        if values[key] is not None:
            paths.safe_name(str(values[key]), key)
    _check_shared_init(config.run.shared_init_from)
    for key in ("model.hub_id", "data.hub_id"):
        if values[key] is not None and not _HUB_ID.fullmatch(str(values[key])):
            raise ConfigError(f"{key} must be a name on the hub such as owner/name, not a path")
    device = config.federation.device
    if device is not None and not DEVICE.fullmatch(device):
        raise ConfigError(f"federation.device is {device!r}: choose cpu, cuda, cuda:<n> or mps")
    if not config.prompt.templates:
        raise ConfigError("prompt.templates is empty: give at least one template")
    for template in config.prompt.templates:
        if template.count("{}") != 1 or set(template.replace("{}", "")) & {"{", "}"}:
            raise ConfigError(
                f"prompt.templates has {template!r}: it must hold {{}} once, where the class "
                "name goes, and no other brace"
            )
    for key in ("prompt.shared_init", "prompt.private_init"):
        if not str(values[key]).strip():
            raise ConfigError(f"{key} is empty: give it words, or random")


def _check_shared_init(source: str | None) -> None:
    if source is None or is_hub_id(source) or is_imported(source):
        return
    if "/" in source or source.startswith("~"):
        raise ConfigError(
            f"run.shared_init_from is {source!r}, a path, which is none at the server: copy the "
            "folder or file to the server's $FEDRSCLIP_HOME/runs/<name>/ and give that name, or "
            "owner/name of the hub"
        )
    paths.safe_name(source, "run.shared_init_from")


def _check_class_texts(values: dict[str, object]) -> None:
    """Refuse texts of classes that compare unequal to what looks the same."""
    for key in ("data.class_names", "data.class_words", "data.class_aliases"):
        for text in _texts(values[key]):
            if not unicodedata.is_normalized("NFC", text):
                raise ConfigError(f"{key} has {text[:_SHOWN]!a}: write it in composed Unicode, NFC")


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _check_prompts(config: Config) -> None:
    _check_rates(config)
    _check_terms(config)
    _check_starts(config.prompt)
    _check_fusion(config)
    _check_offset(config.prompt)
    _check_class_offsets(config)


def _check_rates(config: Config) -> None:
    prompt, optimizer = config.prompt, config.optimizer
    if optimizer.lr == 0 and (optimizer.private_lr is None or not prompt.has_private):
        raise ConfigError(
            "optimizer.lr is 0: it must be above 0, unless what is private has its own "
            "optimizer.private_lr"
        )


def _check_terms(config: Config) -> None:
    prompt, loss = config.prompt, config.loss
    for term, needed in _PROMPTS_OF_TERM.items():
        weight = getattr(loss, term)
        missing = [name for name in needed if not getattr(prompt, f"has_{name}")]
        if weight > 0 and missing:
            raise ConfigError(
                f"loss.{term} is {weight:g} but prompt.{missing[0]} is false and there are no "
                f"{missing[0]} offsets: set it to 0, or choose a method that has them"
            )
    if config.run.shared_init_from is not None and not prompt.has_shared:
        raise ConfigError("run.shared_init_from needs the shared prompt: prompt.shared is false")
    if prompt.finetune_epochs and not prompt.shared:
        raise ConfigError("prompt.finetune_epochs needs the shared prompt: prompt.shared is false")
    if prompt.finetune_epochs and prompt.shared_offsets is not None:
        raise ConfigError(
            "prompt.finetune_epochs tunes the shared prompt alone: set prompt.shared_offsets to "
            "null"
        )
    if config.federation.num_rounds == 0:
        return
    if not prompt.has_shared and not prompt.has_private:
        raise ConfigError(
            f"federation.num_rounds is {config.federation.num_rounds} but there is no prompt to "
            "train: set it to 0, or prompt.shared or prompt.private to true"
        )
    if not any(getattr(loss, term) > 0 for term in _PROMPTS_OF_TERM):
        raise ConfigError("all weights loss.lambda_* are 0: nothing would be trained")


def _check_starts(prompt: PromptConfig) -> None:
    words = prompt.private_init.split()
    # An offset from the shared prompt has a start of its own.
    both = prompt.shared and prompt.private and prompt.private_rank is None
    if both and words == prompt.shared_init.split() and prompt.private_init != RANDOM_INIT:
        raise ConfigError(
            f"prompt.private_init and prompt.shared_init are both {prompt.private_init!r}: equal "
            "prompts stay equal, and sending the shared one would send the private one; set "
            "prompt.private_init=random or other words"
        )


def _check_fusion(config: Config) -> None:
    prompt, loss = config.prompt, config.loss
    if prompt.fusion in ("gate", "class_gate") and not 0 < prompt.beta < 1:
        raise ConfigError(
            f"prompt.beta is {prompt.beta:g}: as the start of a learned gate "
            f"(prompt.fusion={prompt.fusion}) it must lie between 0 and 1"
        )
    if prompt.fusion != TRANSPORT:
        return
    if not (prompt.shared and prompt.private):
        raise ConfigError(
            "prompt.fusion=transport matches patches to two prompts: set prompt.shared and "
            "prompt.private to true, or choose another fusion"
        )
    if loss.lambda_cmfac > 0:
        raise ConfigError(
            f"loss.lambda_cmfac is {loss.lambda_cmfac:g} but prompt.fusion=transport has no fused "
            "text features to align: set it to 0"
        )


def _check_offset(prompt: PromptConfig) -> None:
    if prompt.private_rank is None:
        return
    if not (prompt.shared and prompt.private):
        raise ConfigError(
            "prompt.private_rank makes the private prompt of the shared one: set prompt.shared "
            "and prompt.private to true, or private_rank to null"
        )
    if prompt.private_rank > prompt.n_ctx:
        raise ConfigError(
            f"prompt.private_rank is {prompt.private_rank} but prompt.n_ctx is {prompt.n_ctx}: no "
            "offset of so few vectors has a higher rank"
        )


def _check_class_offsets(config: Config) -> None:
    prompt = config.prompt
    given = prompt.shared_offsets
    if given is not None and not _OFFSETS.fullmatch(given):
        raise ConfigError(
            f"prompt.shared_offsets is {given!r}: give full, basis, basis:<size>, rank:<r> or null"
        )
    if prompt.shared_offsets_dtype != "float32" and given is None:
        raise ConfigError(
            f"prompt.shared_offsets_dtype is {prompt.shared_offsets_dtype} but "
            "prompt.shared_offsets is null: set that to full or a rank, or the dtype to float32"
        )
    if prompt.fusion == TRANSPORT and (given or prompt.private_offsets or prompt.class_prior):
        raise ConfigError(
            "prompt.fusion=transport has no text features of a class that could be moved: set "
            "prompt.shared_offsets to null, private_offsets and class_prior to false"
        )
    if prompt.private_rank is not None and config.loss.shared_gradient == "decoupled":
        raise ConfigError(
            "loss.shared_gradient is decoupled but prompt.private_rank makes the private prompt of "
            "the shared one: set it to coupled, or private_rank to null"
        )
    if given and prompt.private_offsets and config.loss.shared_gradient == "coupled":
        raise ConfigError(
            "loss.shared_gradient is coupled but both sides have class offsets: what is sent would "
            "follow the private ones' gradient; set it to decoupled"
        )
    if prompt.finetune_bias and not prompt.finetune_epochs:
        raise ConfigError("prompt.finetune_bias needs prompt.finetune_epochs above 0")


def _check_data(config: Config) -> None:
    data, partition = config.data, config.partition
    if data.val_fraction + data.test_fraction >= 1:
        raise ConfigError(
            f"data.val_fraction + data.test_fraction is "
            f"{data.val_fraction + data.test_fraction:g}: nothing is left to train on"
        )
    reading_of(data)
    names = data.class_names
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"data.class_names has {double!r} twice")
    if len(names) == 1:
        raise ConfigError(f"data.class_names has {names[0]!r} alone: {ONE_CLASS}")
    if any(not name.strip() for name in names):
        raise ConfigError("data.class_names has an empty name")
    unknown = sorted(set(data.class_words) - set(names)) if names else []
    if unknown:
        raise ConfigError(f"data.class_words has {unknown[0]!r}, which is not in data.class_names")
    for alias, name in data.class_aliases.items():
        if names and (alias in names or name not in names):
            raise ConfigError(
                f"data.class_aliases takes {alias!r} for {name!r}: the first must not be in "
                "data.class_names and the second must"
            )
    if data.other_classes == IGNORE and (not names or data.name != "folder"):
        raise ConfigError(
            "data.other_classes=ignore leaves folders out whose class is not in "
            "data.class_names: give these, and data=folder"
        )
    if partition.name == "given" and data.name != "folder":
        raise ConfigError(
            f"partition=given deals as folders or a list say, but data.name is {data.name}: choose "
            "data=folder"
        )
    if data.split == PUBLISHED and data.name != "hub" and data.split_name is None:
        raise ConfigError(
            "data.split is published, but no published split of these images is known: use seeded, "
            "or name lists of your own in data.split_name"
        )
    if data.split == PUBLISHED and partition.name in ("by_dataset", "given"):
        raise ConfigError(
            f"data.split is published, but partition={partition.name} splits the images of each "
            "client by themselves: use data.split=seeded"
        )
    if partition.name == "site" and data.name != "demo_scenes" and not names:
        raise ConfigError(
            "partition=site needs data.class_names: the federation's class list cannot come from "
            "one site's folder"
        )
    if partition.name == "heterogeneous" and names:
        _check_classes_per_partition(config, len(names))


def _check_classes_per_partition(config: Config, num_classes: int) -> None:
    per_client = config.partition.num_classes_per_partition
    if per_client is None:
        return
    num_clients = config.federation.num_clients
    if per_client > num_classes:
        raise ConfigError(
            f"partition.num_classes_per_partition is {per_client} but there are {num_classes} "
            "classes"
        )
    if per_client * num_clients < num_classes:
        raise ConfigError(
            f"partition.num_classes_per_partition is {per_client}: {num_clients} clients x "
            f"{per_client} classes cannot hold all {num_classes} classes"
        )


def _check_by_dataset(config: Config) -> None:
    if config.partition.name != "by_dataset":
        return
    datasets = config.partition.datasets
    if config.data.name != "folder":
        raise ConfigError(
            f"partition=by_dataset needs folders on disk, but data.name is {config.data.name}: "
            "choose data=union or data=folder"
        )
    if not datasets or len(set(datasets)) < len(datasets):
        raise ConfigError("partition.datasets must name at least one folder, and none twice")
    for name in datasets:
        paths.safe_name(name, "partition.datasets")


def _check_federation(config: Config) -> None:
    federation = config.federation
    for name in ("min_clients", "min_replies"):
        value = getattr(federation, name)
        if value is not None and value > federation.num_clients:
            raise ConfigError(
                f"federation.{name} is {value} but federation.num_clients "
                f"is {federation.num_clients}"
            )
    if federation.ray_address is not None and federation.engine == FLOWER:
        raise ConfigError(
            f"federation.ray_address is {federation.ray_address} but federation.engine is "
            f"{FLOWER}, which stays on this machine: leave one of them out"
        )
    if federation.client_gpus > 1 and federation.client_gpus != int(federation.client_gpus):
        raise ConfigError(
            f"federation.client_gpus is {federation.client_gpus:g}: above 1 it must be whole"
        )


def _check_strategy(config: Config) -> None:
    strategy = config.strategy
    read = STRATEGY_PARAMETERS[strategy.name]
    for item in fields(strategy):
        value = getattr(strategy, item.name)
        if item.name in _OF_EVERY_STRATEGY or item.name in read or value in (None, 0.0):
            continue
        users = [name for name, keys in STRATEGY_PARAMETERS.items() if item.name in keys]
        raise ConfigError(
            f"strategy.{item.name} means nothing to {strategy.name}: it is read by "
            f"{', '.join(users)}"
        )
