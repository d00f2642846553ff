"""Overrides: texts of the form ``group=option`` or ``key=value``, before they are composed."""

import shlex
from collections.abc import Sequence
from contextlib import suppress

from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.errors import ConfigError

FREE_MAPPINGS = ("data.class_words", "data.class_aliases")
"""Keys whose names below are free text, in quotes or not."""
QUOTES = "'\""
_REFUSED = ("${", "_target_", "oc.env")
_SHARE_COUNTS = "privacy.share_label_counts"


def key_of(override: str) -> str:
    """Return the key or group that an override sets; a name in quotes without them."""
    return split_override(override)[0]


def split_override(override: str) -> tuple[str, str | None]:
    """Return key and value of an override; ``None`` for a value if there is no ``=``."""
    text = override.strip().lstrip("+")
    for mapping in FREE_MAPPINGS:
        start = len(mapping) + 1
        if text.startswith(f"{mapping}.") and text[start : start + 1] in (*QUOTES,):
            with suppress(ValueError):
                name, end = read_quoted(text, start)
                if text[end : end + 1] == "=":
                    return f"{mapping}.{name}", text[end + 1 :]
    key, equals, value = text.partition("=")
    return key.strip(), value if equals else None


def for_simulation(overrides: Sequence[str]) -> list[str]:
    """Add what a simulation does unless it is told otherwise: its clients have no secrets.

    Their images are this machine's, so their counts per class may be drawn.
    """
    privacy = ("privacy", _SHARE_COUNTS)
    if any(key_of(text) in privacy for text in overrides):
        return list(overrides)
    return [f"{_SHARE_COUNTS}=true", *overrides]


def join_overrides(overrides: Sequence[str]) -> str:
    """Join overrides into the one string that :func:`split_overrides` splits again."""
    return shlex.join(overrides)


def split_overrides(text: str) -> list[str]:
    """Split what :func:`join_overrides` joined.

    Raises
    ------
    ConfigError
        If a quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError("the overrides have an unbalanced quote") from error


def split_site_overrides(overrides: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """Separate what travels from what belongs to this site.

    Returns
    -------
    tuple[list[str], dict[str, str | None]]
        The overrides without site keys, and the site keys' literal values.
    """
    travelling: list[str] = []
    site: dict[str, str | None] = {}
    for override in overrides:
        _, equals, value = override.partition("=")
        key = key_of(override)
        refuse_evaluation(override, key)
        if key in SITE_KEYS and equals:
            site[key] = None if value in ("", "null") else unquoted(value)
        else:
            travelling.append(override)
    return travelling, site


def refuse_evaluation(override: str, key: str) -> None:
    """Refuse a text in which something would be evaluated.

    Raises
    ------
    ConfigError
        Naming the key, without the value.
    """
    for pattern in _REFUSED:
        if pattern in override:
            raise ConfigError(f"the override of {key} holds {pattern}: only plain values are taken")


def quote(value: str) -> str:
    """Return ``value`` so that an override's grammar reads exactly this text."""
    # A run of backslashes counts as escapes only before a quote.
    head = value.rstrip("\\")
    tail = value[len(head) :] * 2
    parts = head.split("'")
    escaped = [part + "\\" * (len(part) - len(part.rstrip("\\"))) for part in parts[:-1]]
    return "'" + "\\'".join([*escaped, parts[-1]]) + tail + "'"


def read_quoted(text: str, start: int) -> tuple[str, int]:
    """Read what :func:`quote` has written, with either sort of quotes.

    Returns
    -------
    tuple[str, int]
        The text, and the position after its closing quote.

    Raises
    ------
    ValueError
        If it is not closed.
    """
    sign, at, parts = text[start], start + 1, []
    while at < len(text):
        rest = text[at:]
        run = len(rest) - len(rest.lstrip("\\"))
        if rest[run : run + 1] != sign:  # only before a quote backslashes count as escapes
            parts.append(rest[: run + 1])
        else:
            parts.append("\\" * (run // 2))
            if run % 2 == 0:
                return "".join(parts), at + run + 1
            parts.append(sign)
        at += run + 1
    raise ValueError("a quote is not closed")


def unquoted(value: str) -> str:
    """Return ``value`` without the quotes around it."""
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value
