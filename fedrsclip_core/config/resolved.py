"""The resolved configuration as data, as it travels from who composed it to server and sites.

JSON that is parsed and checked, never evaluated: exactly the schema's keys without the site keys,
each with a value of its type and range.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from fedrsclip_core.config.schema import Config, type_name
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import validate
from fedrsclip_core.errors import ConfigError


def travelling(config: Config) -> dict[str, Any]:
    """Return the configuration as nested mappings, without site keys."""
    values = asdict(config)
    for key in SITE_KEYS:
        section, name = key.split(".")
        del values[section][name]
    return values


def to_json(config: Config) -> str:
    """Return the configuration without site keys, the same text for the same configuration."""
    return json.dumps(travelling(config), sort_keys=True, ensure_ascii=True, allow_nan=False)


def from_json(text: str) -> Config:
    """Read and check what :func:`to_json` wrote.

    Raises
    ------
    ConfigError
        If it is not JSON, lacks a key, has one that is unknown or a site's, or a value of another
        type or out of range. No value of an unknown key is repeated.
    """
    try:
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the configuration cannot be read as JSON: {error}") from error
    config: Config = _section(values, Config, "")
    validate(config)
    return config


def _section(values: object, kind: type[Any], prefix: str) -> Any:
    if type(values) is not dict:
        raise ConfigError(f"{prefix.rstrip('.') or 'the configuration'} must be a mapping of keys")
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind) if f"{prefix}{item.name}" not in SITE_KEYS]
    _check_names(values, names, prefix)
    read = {name: _read(values[name], hints[name], f"{prefix}{name}") for name in names}
    return kind(**read)


def _check_names(found: Iterable[str], wanted: Iterable[str], prefix: str) -> None:
    for name in sorted(set(wanted) - set(found)):
        raise ConfigError(f"the configuration lacks {prefix}{name}: {_VERSIONS}")
    for name in sorted(set(found) - set(wanted)):
        key = f"{prefix}{name[:40]}"
        if key in SITE_KEYS:
            raise ConfigError(f"{key} belongs to a site and must not travel")
        raise ConfigError(f"{key} is not a key of the configuration: {_VERSIONS}")


def _read(value: object, hint: Any, key: str) -> object:
    if is_dataclass(hint):
        return _section(value, hint, f"{key}.")  # type: ignore[arg-type]
    if not _fits(value, hint):
        raise ConfigError(f"{key} must be {type_name(hint)}")
    return value


def _fits(value: object, hint: Any) -> bool:
    inner = get_args(hint)
    if get_origin(hint) is list:
        return type(value) is list and all(_fits(item, inner[0]) for item in value)
    if get_origin(hint) is dict:
        return type(value) is dict and all(_fits(item, inner[1]) for item in value.values())
    if inner:
        return any(_fits(value, kind) for kind in inner)
    return type(value) is hint


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


_VERSIONS = "install the same version of fedrsclip at server and sites"
