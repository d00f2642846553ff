"""``fedrsclip run resume=RUN``: the overrides of an interrupted run, submitted again."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

_KEY = "resume"


def with_resumed(overrides: Sequence[str]) -> list[str]:
    """Replace ``resume=RUN`` by what that run was started with; other overrides win over it.

    Raises
    ------
    ConfigError
        If there is no such run here, or no record of how it was started.
    """
    asked = [text.partition("=")[2] for text in overrides if _key(text) == _KEY]
    if not asked:
        return list(overrides)
    name = paths.safe_name(asked[-1], _KEY)
    given = [text for text in overrides if _key(text) != _KEY]
    replaced = {_key(text) for text in given} | {"run.name", "run.resume"}
    earlier = [text for text in _overrides_of(name) if _key(text) not in replaced]
    return [*earlier, *given, f"run.name={name}", "run.resume=true"]


def can_be_resumed(folder: Path) -> bool:
    """Whether a run's folder holds a checkpoint."""
    return any(folder.glob("checkpoint/round-*.safetensors"))


def _overrides_of(name: str) -> list[str]:
    path = paths.runs_dir() / name / "run.json"
    try:
        return shlex.split(str(json.loads(path.read_text(encoding="utf-8"))["overrides"]))
    except FileNotFoundError:
        raise ConfigError(f"there is no run {name} to resume in {paths.runs_dir()}") from None
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{path} is damaged: start a new run") from error


def _key(override: str) -> str:
    return override.partition("=")[0].strip().lstrip("+")
