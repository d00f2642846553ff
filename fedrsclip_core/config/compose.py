"""Compose the configuration from overrides; the only module that knows Hydra and OmegaConf.

It is composed once: by who submits a run, or by the ServerApp for a bare ``flwr run``. What sites
receive is the result (:mod:`fedrsclip_core.config.resolved`). Overrides may arrive over the
network, so nothing in them is evaluated: no interpolation, however it is escaped, no object paths;
a name is looked up in a closed table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from fedrsclip_core.config.class_texts import (
    FILE_KEY,
    refuse_class_file,
    take_class_texts,
    with_class_file,
)
from fedrsclip_core.config.overrides import (
    for_simulation,
    join_overrides,
    key_of,
    refuse_evaluation,
    split_overrides,
    split_site_overrides,
)
from fedrsclip_core.config.resolved import from_json, to_json, travelling
from fedrsclip_core.config.schema import Config, keys, type_name
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.tuned import Values, read_table
from fedrsclip_core.config.unread import refuse_unread, with_implied_options
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.config.validation import validate as validate
from fedrsclip_core.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

T = TypeVar("T")

OVERRIDES_KEY, CONFIGURATION_KEY = "hydra-overrides", "configuration"
"""The keys of Flower's run configuration: what was asked for, and what it was composed to."""
TUNED = "tuned"
"""Says which tuned values count: ``recorded``, those that ship, or ``null``, none."""
_LISTS_OR_ONE = ("data.bands", "data.stretch")
"""Lists of which one item may be given without brackets."""
_RECIPES = ("experiment", "method")
"""Groups whose options set values in other groups."""


def conf_dir() -> Path:
    """Return the folder of the yaml files: inside the package in a wheel, else beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def compose(overrides: Sequence[str], *, given: Sequence[str] | None = None) -> Config:
    """Compose and check a configuration.

    Parameters
    ----------
    overrides : Sequence[str]
        Hydra overrides: ``group=option`` or ``key=value``; site keys and what is said of classes
        are taken literally. A ``data.path`` without ``data=`` chooses ``data=folder``.
    given : Sequence[str], optional
        Those that a person wrote for this very run, all by default: a key of these that the chosen
        options do not read is refused.

    Raises
    ------
    ConfigError
        One sentence naming the key that is wrong.
    """
    from omegaconf.errors import OmegaConfBaseException

    overrides = with_class_file(with_implied_options(overrides, given))
    travelling, site = split_site_overrides(overrides)
    travelling, classes = take_class_texts(travelling)
    composed = _compose(travelling)[0]
    try:
        config = _merge(composed, Config)
    except OmegaConfBaseException as error:
        raise _translated(error) from error
    classes.apply(config.data)
    for key, value in site.items():
        set_value(config, key, value)
    validate(config)
    refuse_unread(config, overrides if given is None else given)
    return config


def compose_file(file: Path, overrides: Sequence[str], schema: type[T]) -> T:
    """Compose a description that is no run's configuration and never travels.

    Raises
    ------
    ConfigError
        One sentence naming the key that is wrong.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        return _merge(_composed(file.parent, file.stem, list(overrides)), schema)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "a key"
        raise ConfigError(f"{key} of {file.name} is wrong: {_first_line(error)}") from error


def choices(overrides: Sequence[str]) -> dict[str, str]:
    """Return the option chosen in each group, e.g. ``{"data": "uc_merced", ...}``."""
    return _compose(_for_hydra(overrides))[1]


def recorded_file() -> Path:
    """Return the table of tuned values that ships."""
    return conf_dir() / "tuned.yaml"


def tuned_values(overrides: Sequence[str], file: Path) -> Values | None:
    """Return what counts of a table of tuned values: what no override wins over.

    Parameters
    ----------
    overrides : Sequence[str]
        A run's.
    file : Path
        The table.

    Returns
    -------
    dict[str, Any] or None
        By dotted key; ``None`` if the table knows nothing of the run's experiment and method.

    Raises
    ------
    ConfigError
        If an override or the table is wrong.
    """
    return _composed_and_tuned(_for_hydra(overrides), file)[1]


def to_run_config(config: Config, overrides: Sequence[str]) -> dict[str, str]:
    """Return what is submitted to Flower: a configuration, and the overrides that it is made of."""
    return {OVERRIDES_KEY: join_overrides(overrides), CONFIGURATION_KEY: to_json(config)}


def from_run_config(run_config: Mapping[str, object], *, simulation: bool = False) -> Config:
    """Return the configuration of a submitted run, at the server.

    Parameters
    ----------
    run_config : Mapping[str, object]
        Flower's run configuration. Without a resolved configuration, as a bare ``flwr run`` sends
        it, the overrides are composed here.
    simulation : bool
        Whether they are composed for a simulation, see :func:`for_simulation`.

    Raises
    ------
    ConfigError
        As :func:`compose` or :func:`from_json`, and if a site key travels; its value is not
        repeated.
    """
    resolved = run_config.get(CONFIGURATION_KEY)
    if resolved:
        return from_json(str(resolved))
    if not conf_dir().is_dir():
        raise ConfigError(
            f"the app came with neither {CONFIGURATION_KEY} nor conf/: submit it by `fedrsclip "
            "run` or `fedrsclip submit`, or the checkout by `flwr run`"
        )
    overrides = split_overrides(str(run_config.get(OVERRIDES_KEY, "")))
    refuse_class_file(overrides)
    for key in split_site_overrides(overrides)[1]:
        raise ConfigError(
            f"{key} belongs to a site and must not travel in {OVERRIDES_KEY}: "
            f"set it there, by {SITE_KEYS[key]}"
        )
    return compose(for_simulation(overrides) if simulation else overrides)


def to_yaml(config: Config, *, site_keys: bool) -> str:
    """Return the configuration as YAML, with or without the site keys."""
    from omegaconf import OmegaConf

    values = asdict(config) if site_keys else travelling(config)
    return OmegaConf.to_yaml(OmegaConf.create(values))


def get_value(config: Config, key: str) -> object:
    """Return the value at a dotted key."""
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def set_value(config: Config, key: str, value: object) -> None:
    """Set the value at a dotted key."""
    section, _, name = key.rpartition(".")
    setattr(get_value(config, section) if section else config, name, value)


def _for_hydra(overrides: Sequence[str]) -> list[str]:
    """Return those of the overrides that Hydra reads."""
    chosen = with_implied_options(overrides)
    travelling, _ = split_site_overrides([text for text in chosen if key_of(text) != FILE_KEY])
    return take_class_texts(travelling)[0]


def _compose(overrides: Sequence[str]) -> tuple[Any, dict[str, str]]:
    from omegaconf import OmegaConf

    composed, tuned = _composed_and_tuned(overrides, recorded_file())
    if tuned and not _untuned(overrides):
        for key, value in tuned.items():
            OmegaConf.update(composed, key, value)
    return composed, _chosen(composed)


def _composed_and_tuned(overrides: Sequence[str], file: Path) -> tuple[Any, Values | None]:
    """Compose without tuned values, and return those of a table that nothing given wins over."""
    checked = [text for override in overrides for text in _checked(override)]
    composed = _composed(conf_dir(), "config", checked)
    replaced = _keep_what_is_named(composed, checked)
    chosen = _chosen(composed)
    if chosen["experiment"] not in _groups()["experiment"]:
        return composed, None
    found = read_table(file).get(chosen["experiment"], {}).get(chosen["method"])
    if found is None:
        return composed, None
    given = {text.partition("=")[0] for text in checked}
    return composed, {
        key: value
        for key, value in found.items()
        if key not in given and key.partition(".")[0] not in replaced
    }


def _untuned(overrides: Sequence[str]) -> bool:
    given = [value for key, _, value in (text.partition("=") for text in overrides) if key == TUNED]
    return bool(given) and given[-1] != "recorded"


def _chosen(composed: Any) -> dict[str, str]:
    return {name: str(option) for name, option in composed.hydra.runtime.choices.items()}


def _keep_what_is_named(composed: Any, overrides: Sequence[str]) -> list[str]:
    """Take back what a recipe set for an option in whose place another is named.

    Returns
    -------
    list[str]
        The groups of which another option is named than the recipe's.
    """
    from omegaconf import open_dict

    chosen = _chosen(composed)
    named = [key for text in overrides if (key := text.partition("=")[0]) in _groups()]
    options = [group for group in named if group not in _RECIPES]
    if not options or chosen["experiment"] not in _groups()["experiment"]:
        return []
    unnamed = [text for text in overrides if text.partition("=")[0] not in options]
    recipe = _chosen(_composed(conf_dir(), "config", unnamed))
    replaced = [group for group in options if recipe[group] != chosen[group]]
    if replaced:
        values = [text for text in overrides if text.partition("=")[0] not in named]
        kept = [f"{group}={chosen[group]}" for group in _groups() if group != "experiment"]
        plain = _composed(conf_dir(), "config", [*kept, *values])
        with open_dict(composed):
            for group in replaced:
                composed[group] = plain[group]
    return replaced


def _composed(folder: Path, name: str, overrides: list[str]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # A process that serves several messages may still hold the previous composition.
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(folder), version_base="1.3"):
            return hydra_compose(name, overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"the configuration cannot be composed: {_first_line(error)}") from error


def _merge(composed: Any, schema: type[T]) -> T:
    from omegaconf import OmegaConf, open_dict

    with open_dict(composed):
        del composed["hydra"]
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), composed))
    assert isinstance(config, schema)
    return config


def _checked(text: str) -> list[str]:
    """Return what Hydra takes for an override, or say what is wrong with it."""
    override = _parsed(text)
    key = override.key_or_group
    if override.is_delete() or override.package is not None:
        raise ConfigError(f"override {text!r} is not of the form key=value")
    if override.is_sweep_override():
        raise ConfigError(
            f"{key} has several values: a run takes one, start a run for each "
            "(or put quotes around a text with a comma)"
        )
    # As Hydra stores it: the text before may have hidden an interpolation by escapes.
    for part in _texts(override.value()):
        refuse_evaluation(part, key)
    value = text.partition("=")[2]
    if key == TUNED:
        if override.value() not in ("recorded", None):
            raise ConfigError(f"{TUNED}={value} does not exist: choose recorded or null")
        return []
    if key in _groups():
        return _chosen_option(key, override.value())
    if key not in keys():
        raise ConfigError(_unknown_key(key))
    container = get_origin(keys()[key])
    if key in _LISTS_OR_ONE and isinstance(override.value(), str | int | float):
        return [f"{key}=[{value}]"]
    if isinstance(override.value(), list | dict) and not isinstance(
        override.value(), container if isinstance(container, type) else ()
    ):
        raise ConfigError(f"{key} must be {type_name(keys()[key])}")
    return [f"{key}={value}"]


def _parsed(text: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, ValueError) as error:  # the latter of a number without end
        name, equals, _ = text.partition("=")
        if not equals:
            raise ConfigError(f"override {text!r} is not of the form key=value") from error
        raise ConfigError(
            f"the value of {name.lstrip('+')} cannot be read: put single quotes around it inside "
            f"the argument, as in \"{name}='...'\""
        ) from error


def _chosen_option(group: str, value: object) -> list[str]:
    """Return the override of a group as Hydra takes it, empty if it changes nothing."""
    if value is None and group == "experiment":
        return []
    options = list(STRATEGY_PARAMETERS) if group == "strategy" else _groups()[group]
    if value not in options:
        raise ConfigError(
            f"{group}={value} does not exist{_suggestion(str(value), options)}: "
            f"choose one of {', '.join(options)}"
        )
    if value not in _groups()[group]:  # an aggregator of which there is no more to say
        return [f"{group}=fedavg", f"{group}.name={value}"]
    return [f"{group}={value}"]


def _unknown_key(key: str) -> str:
    known = [*keys(), *_groups()]
    hint = _suggestion(key, known)
    if not hint:
        last = key.rpartition(".")[2]
        hint = _hint(name for name in keys() if name.rpartition(".")[2] == last)
    return f"{key} is not a key of the configuration{hint}: `fedrsclip config` prints all keys"


def _suggestion(name: str, known: Sequence[str]) -> str:
    return _hint(get_close_matches(name, known, n=1, cutoff=0.6))


def _hint(names: Iterable[str]) -> str:
    return next((f" (did you mean {name}?)" for name in names), "")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(pair)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)


def _translated(error: Exception) -> ConfigError:
    key = str(getattr(error, "full_key", None) or "")
    kinds = keys()
    if key not in kinds:
        section = key.split("[")[0]
        if section in kinds:
            return ConfigError(f"{section} must be {type_name(kinds[section])}")
        return ConfigError(_unknown_key(key) if key else _first_line(error))
    return ConfigError(f"{key} must be {type_name(kinds[key])}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


@cache
def _groups() -> dict[str, list[str]]:
    folders = [folder for folder in conf_dir().iterdir() if folder.is_dir()]
    return {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in folders}
