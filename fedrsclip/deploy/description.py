"""What of a configuration describes the hosts, and what of it travels with a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedrsclip.run.submission import compose_for_sites
from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.errors import ConfigError

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
    config = compose_for_sites(overrides)
    clients = tuple(config.federation.clients) or tuple(
        f"client-{number}" for number in range(config.federation.num_clients)
    )
    if SERVER in clients:
        raise ConfigError(f"federation.clients has {SERVER!r}: give that client another name")
    return Description(config, tuple(overrides), clients)


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
