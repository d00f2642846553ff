"""What of a configuration describes the hosts, and what of it travels with a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.errors import ConfigError

DEPLOY_KEYS = (
    "address",
    "port",
    "superlink_port",
    "alt_names",
    "clients",
    "insecure",
    "insecure_remote",
)
"""Keys of ``federation`` that matter to hosts only: a run does not tell one site of the others."""

SERVER = "server"


@dataclass(frozen=True)
class Description:
    """A federation's hosts and the run that is submitted to it.

    Attributes
    ----------
    config : Config
        The composed configuration.
    overrides : tuple of str
        As given.
    clients : tuple of str
        Their names in the order of the partitions.
    """

    config: Config
    overrides: tuple[str, ...]
    clients: tuple[str, ...]

    @property
    def federation(self) -> FederationConfig:
        """The description itself."""
        return self.config.federation

    @property
    def server_names(self) -> list[str]:
        """Each name and address by which the server is dialled, also from the server itself."""
        federation = self.federation
        return list(
            dict.fromkeys([federation.address, *federation.alt_names, "localhost", "127.0.0.1"])
        )


def describe(overrides: Sequence[str]) -> Description:
    """Compose a description.

    Raises
    ------
    ConfigError
        If the configuration is wrong, holds facts of a site, or names a client like the server.
    """
    _, site = configuration.split_site_overrides(overrides)
    for key in site:
        raise ConfigError(f"{key} belongs to a site: it is filled in there, in site.env")
    config = configuration.compose(overrides)
    clients = tuple(config.federation.clients) or tuple(
        f"client-{number}" for number in range(config.federation.num_clients)
    )
    if SERVER in clients:
        raise ConfigError(f"federation.clients has {SERVER!r}: give that client another name")
    return Description(config, tuple(overrides), clients)


def travelling(description: Description) -> list[str]:
    """Return the overrides of the run, in which each of :data:`DEPLOY_KEYS` is at its default."""
    default = FederationConfig()
    names = {f"federation.{key}": key for key in DEPLOY_KEYS}
    kept, reset = (
        [],
        dict.fromkeys(
            key
            for key in DEPLOY_KEYS
            if getattr(description.federation, key) != getattr(default, key)
        ),
    )
    for override in description.overrides:
        key = override.partition("=")[0].strip().lstrip("+")
        if key in names:
            reset[names[key]] = None
        else:
            kept.append(override)
    return kept + [f"federation.{key}={_plain(getattr(default, key))}" for key in reset]


def notes(config: Config) -> list[str]:
    """Return what is allowed but seldom meant in a deployment, a sentence each."""
    found = []
    if config.privacy.share_label_counts:
        found.append(
            "clients will tell the server their images per class: "
            "set privacy=deployment unless that is meant"
        )
    if config.partition.name != "site" and config.data.name != "demo_scenes":
        found.append(
            f"partition.name is {config.partition.name}: each client will use a part of its own "
            "images; set partition=site unless all have the same images"
        )
    if config.federation.insecure:
        found.append("federation.insecure is true: no TLS, and any host may join as a client")
    return found


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
