"""``fedrsclip run resume=RUN``: the overrides of an interrupted run, submitted again."""

import shlex
from collections.abc import Sequence

from fedrsclip_core.config.overrides import key_of
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.records import UnreadableError
from fedrsclip_core.runs.run_folder import RunFolder

_KEY = "resume"


def with_resumed(overrides: Sequence[str]) -> list[str]:
    """Replace ``resume=RUN`` by what that run was started with; other overrides win over it.

    Raises
    ------
    ConfigError
        If there is no such run here, or no record of how it was started.
    """
    asked = [text.partition("=")[2] for text in overrides if key_of(text) == _KEY]
    if not asked:
        return list(overrides)
    name = paths.safe_name(asked[-1], _KEY)
    given = [text for text in overrides if key_of(text) != _KEY]
    replaced = {key_of(text) for text in given} | {"run.name", "run.resume"}
    before = _overrides_of(RunFolder.named(name))
    earlier = [text for text in before if key_of(text) not in replaced]
    return [*earlier, *given, f"run.name={name}", "run.resume=true"]


def _overrides_of(folder: RunFolder) -> list[str]:
    try:
        description = folder.description()
        if description is None:
            raise ConfigError(f"there is no run {folder.name} to resume in {folder.path.parent}")
        return shlex.split(description["overrides"])
    except (UnreadableError, ValueError) as error:
        raise ConfigError(f"{folder.path}: {error}; start a new run") from error
