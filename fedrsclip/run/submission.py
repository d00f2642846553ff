"""What is handed to Flower: the one place that knows how a run's configuration travels."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.class_texts import with_class_file
from fedrsclip_core.config.overrides import key_of, split_site_overrides
from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.errors import ConfigError

ENGINE_KEYS = ("engine", "ray_address")
DEPLOY_KEYS = (
    *ENGINE_KEYS,
    "address",
    "port",
    "superlink_port",
    "alt_names",
    "clients",
    "insecure",
    "insecure_remote",
)
"""Keys of ``federation`` that matter to hosts only: a run does not tell one site of the others."""


@dataclass(frozen=True)
class Submission:
    """A run with a name, of which nothing belongs to a site.

    Attributes
    ----------
    config : Config
        The composed configuration.
    overrides : tuple of str
        From which it was composed.
    """

    config: Config
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """The run's name."""
        assert self.config.run.name is not None
        return self.config.run.name

    def run_config(self) -> dict[str, str]:
        """Return the run configuration in Flower's sense."""
        return configuration.to_run_config(self.config, self.overrides)

    def resumed(self) -> "Submission":
        """Return the same run, to be resumed from its last checkpoint."""
        return submission([*self.overrides, "run.resume=true"])


def submission(overrides: Sequence[str]) -> Submission:
    """Compose what travels; what a person gave for it has been looked at before.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    """
    read = with_class_file(overrides)
    return Submission(configuration.compose(read, given=()), tuple(read))


def deployed(overrides: Sequence[str], *, given: Sequence[str] | None = None) -> Submission:
    """Compose a run of a deployment; it gets a name if it has none.

    ``given`` is that of :func:`fedrsclip_core.config.compose.compose`.

    Raises
    ------
    ConfigError
        If the configuration is wrong or holds facts of a site.
    """
    config = compose_for_sites(overrides, given=given)
    kept = without_hosts(config, overrides)
    if config.run.name is None:
        kept.append(f"run.name={config.federation.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    kept += _pinned(config)
    return submission(kept)


def _pinned(config: Config) -> list[str]:
    """Name the newest commit of a data set of the hub, if it can be asked: sites take the same."""
    data = config.data
    if data.name != "hub" or data.hub_id is None or data.hub_revision is not None:
        return []
    from fedrsclip_core.data.hub.commits import newest_commit
    from fedrsclip_core.data.sources import hub_spec

    commit = newest_commit(hub_spec(data, None))
    return [f"data.hub_revision={commit}"] if commit else []


def compose_for_sites(overrides: Sequence[str], *, given: Sequence[str] | None = None) -> Config:
    """Compose a configuration that holds no fact of a site.

    Raises
    ------
    ConfigError
        If it does, or is wrong otherwise.
    """
    _, site = split_site_overrides(overrides)
    for key in site:
        raise ConfigError(f"{key} belongs to a site: it is filled in there, in site.env")
    return configuration.compose(overrides, given=given)


def without_hosts(
    config: Config, overrides: Sequence[str], keys: Sequence[str] = DEPLOY_KEYS
) -> list[str]:
    """Return the overrides of a run, in which each of ``keys`` of ``federation`` is at its default.

    Of a simulation these are :data:`ENGINE_KEYS`: it is the same run, whatever carries it out.
    """
    default = FederationConfig()
    names = {f"federation.{key}": key for key in keys}
    given = {names[key_of(text)] for text in overrides if key_of(text) in names}
    reset = [
        key
        for key in keys
        if key in given or getattr(config.federation, key) != getattr(default, key)
    ]
    kept = [text for text in overrides if key_of(text) not in names]
    return kept + [f"federation.{key}={_plain(getattr(default, key))}" for key in reset]


def _plain(value: object) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
