"""What of a configuration describes the hosts, and what of it travels with a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedrsclip.deploy.addresses import is_host, is_loopback
from fedrsclip.run.submission import compose_for_sites
from fedrsclip_core.config.class_texts import with_class_file
from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

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
    overrides = with_class_file(overrides)
    config = compose_for_sites(overrides)
    _check_hosts(config.federation)
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


def _check_hosts(federation: FederationConfig) -> None:
    for name, hosts in (("address", [federation.address]), ("alt_names", federation.alt_names)):
        wrong = [host for host in hosts if not is_host(host)]
        if wrong:
            raise ConfigError(
                f"federation.{name} has {wrong[0]!r}: give a DNS name or an IP address without port"
            )
    if federation.port == federation.superlink_port:
        raise ConfigError(
            f"federation.port and federation.superlink_port are both {federation.port}: proxy and "
            "SuperLink run on one machine and need two"
        )
    clients = federation.clients
    if clients and len(clients) != federation.num_clients:
        raise ConfigError(
            f"federation.clients has {len(clients)} names but federation.num_clients is "
            f"{federation.num_clients}"
        )
    for client in clients:
        paths.safe_name(client, "a name in federation.clients")
        if clients.count(client) > 1:
            raise ConfigError(f"federation.clients has {client!r} twice")
    if (
        federation.insecure
        and not federation.insecure_remote
        and not is_loopback(federation.address)
    ):
        raise ConfigError(
            f"federation.insecure is true but federation.address is {federation.address}: without "
            "TLS anyone on the way can read and change what is sent; leave it false, or set "
            "federation.insecure_remote=true too if that network is yours alone"
        )
