"""The site's own word on what may run here: one file, written by nobody but the site.

Nothing of it travels: a refused run is told a code, and the sentence is in the site's log.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError, PolicyError

POLICY_VARIABLE = "FEDRSCLIP_POLICY"
"""Environment variable with the path of the file; not set: everything but submitted code."""

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_ANY = ("*",)


@dataclass(frozen=True)
class Hours:
    """A part of the day in local time; it spans midnight if it ends before it starts."""

    start: time
    end: time

    def __contains__(self, now: time) -> bool:
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True)
class Policy:
    """What a site lets run; what is not said is allowed, except submitted code.

    Attributes
    ----------
    federations, runs, methods : tuple of str
        Patterns (``*``, ``?``, ``[...]``) of ``federation.name``, ``run.name`` and ``method``.
    max_rounds : int or None
        The most that ``federation.num_rounds`` may be, and the highest round that is answered.
    max_local_epochs : int or None
        The most that ``optimizer.local_epochs`` and ``prompt.finetune_epochs`` may be.
    share_label_counts : bool
        False: a run with ``privacy.share_label_counts`` is refused.
    min_replies : int
        The least that ``federation.min_replies`` may be: of so many sites the average is made.
    hours : tuple of Hours
        When messages are answered; empty: always.
    gpu_memory_share : float or None
        The part of a GPU's memory that one message may take, in (0, 1].
    allow_submitted_code : bool
        Whether code that is not installed here may run.
    """

    federations: tuple[str, ...] = _ANY
    runs: tuple[str, ...] = _ANY
    methods: tuple[str, ...] = _ANY
    max_rounds: int | None = None
    max_local_epochs: int | None = None
    share_label_counts: bool = True
    min_replies: int = 1
    hours: tuple[Hours, ...] = ()
    gpu_memory_share: float | None = None
    allow_submitted_code: bool = False


def read_policy(environment: Mapping[str, str] = os.environ) -> Policy:
    """Read the site's policy; without a file it is the one that says nothing.

    Raises
    ------
    ConfigError
        If there should be a file and it is missing, cannot be read, or says what no policy can.
    """
    path = environment.get(POLICY_VARIABLE)
    if not path:
        return Policy()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(
            f"the policy {path} cannot be read ({why}): {POLICY_VARIABLE} names it; without a "
            "policy leave that empty"
        ) from error
    try:
        return parse_policy(text)
    except ConfigError as error:
        raise ConfigError(f"the policy {path} is wrong: {error}") from error


def parse_policy(text: str) -> Policy:
    """Read a policy from YAML.

    Raises
    ------
    ConfigError
        On what is no YAML, a key that is unknown or there twice, or a value of another type or
        range.
    """
    values = _mapping(text)
    read: dict[str, Any] = {}
    for key, value in values.items():
        if key not in _READERS:
            raise ConfigError(f"it has {key!r}, but its keys are {', '.join(_READERS)}")
        read[str(key)] = _READERS[str(key)](str(key), value)
    return Policy(**read)


def require_allowed(
    policy: Policy, config: Config, run_name: str, server_round: int, now: datetime
) -> None:
    """Refuse a message of a run that this site does not let run.

    Parameters
    ----------
    policy : Policy
        The site's.
    config : Config
        The run's configuration.
    run_name : str
        The run's name as the message states it.
    server_round : int
        The message's round; 0 if it is of none.
    now : datetime
        Local time.

    Raises
    ------
    PolicyError
        With the first thing that is not allowed.
    """
    for refusal in (
        _names(policy, config, run_name),
        _amounts(policy, config, server_round),
        _counts(policy, config),
        _time(policy, now.time()),
    ):
        if refusal:
            raise PolicyError(f"this site's policy refuses the run {run_name[:100]!r}: {refusal}")


def _names(policy: Policy, config: Config, run_name: str) -> str:
    for key, patterns, name in (
        ("federations", policy.federations, config.federation.name),
        ("runs", policy.runs, run_name),
        ("methods", policy.methods, config.method),
    ):
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            return f"{key} are {', '.join(patterns)}, not {name[:100]!r}"
    return ""


def _amounts(policy: Policy, config: Config, server_round: int) -> str:
    rounds = max(config.federation.num_rounds, server_round)
    if policy.max_rounds is not None and rounds > policy.max_rounds:
        return f"max_rounds is {policy.max_rounds}, it wants {rounds}"
    epochs = max(config.optimizer.local_epochs, config.prompt.finetune_epochs)
    if policy.max_local_epochs is not None and epochs > policy.max_local_epochs:
        return f"max_local_epochs is {policy.max_local_epochs}, it wants {epochs}"
    return ""


def _counts(policy: Policy, config: Config) -> str:
    if config.privacy.share_label_counts and not policy.share_label_counts:
        return "share_label_counts is false, it asks for the images per class"
    found = config.federation.min_replies
    if found < policy.min_replies:
        return f"min_replies is {policy.min_replies}, it averages as few as {found}"
    return ""


def _time(policy: Policy, now: time) -> str:
    if not policy.hours or any(now in hours for hours in policy.hours):
        return ""
    return f"hours are {', '.join(map(str, policy.hours))}, it is {now:%H:%M}"


def _mapping(text: str) -> dict[Any, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        root = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"it is no YAML{where}: {problem}") from error
    if values is None:
        return {}
    if type(values) is not dict:
        raise ConfigError("it must be a mapping of keys, a line each: key: value")
    if len(values) < len(root.value):  # of two equal keys YAML takes the last
        raise ConfigError("it has a key twice")
    return values


def _patterns(key: str, value: object) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if type(given) is not list or not given or not all(isinstance(one, str) for one in given):
        raise ConfigError(f"{key} must be a list of names or patterns such as [sites, test-*]")
    return tuple(given)


def _hours(key: str, value: object) -> tuple[Hours, ...]:
    return tuple(_part_of_day(key, one) for one in _patterns(key, value))


def _part_of_day(key: str, text: str) -> Hours:
    found = _HOURS.fullmatch(text.replace(" ", ""))
    if found is None:
        raise ConfigError(f"{key} has {text!r}: write local time such as 20:00-06:00")
    start, end = (time(int(found[n] or 0), int(found[n + 1] or 0)) for n in (1, 3))
    if start == end:
        raise ConfigError(f"{key} has {text!r}, which is no part of a day: leave the key out")
    return Hours(start, end)


def _at_least_one(key: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{key} must be a whole number, 1 or more")
    return value


def _flag(key: str, value: object) -> bool:
    if type(value) is not bool:
        raise ConfigError(f"{key} must be true or false")
    return value


def _share(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"{key} must be a number above 0 and at most 1")
    return float(value)


_READERS: dict[str, Callable[[str, object], object]] = {
    "federations": _patterns,
    "runs": _patterns,
    "methods": _patterns,
    "max_rounds": _at_least_one,
    "max_local_epochs": _at_least_one,
    "share_label_counts": _flag,
    "min_replies": _at_least_one,
    "hours": _hours,
    "gpu_memory_share": _share,
    "allow_submitted_code": _flag,
}
