"""DNS names and IP addresses."""

import ipaddress
import re

from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip_of(host: str) -> IpAddress | None:
    """Return the IP address that ``host`` spells out, or ``None`` for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_host(text: str) -> bool:
    """Whether ``text`` is an IP address or can be a DNS name."""
    if ip_of(text) is not None:
        return "%" not in text
    # Digits and dots alone are a mistyped address, not a name.
    looks_numeric = not text.replace(".", "").strip("0123456789")
    return len(text) <= 253 and not looks_numeric and _DNS_NAME.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether ``host`` means the machine itself."""
    address = ip_of(host)
    return host == "localhost" if address is None else address.is_loopback


def with_port(host: str, port: int) -> str:
    """Join host and port; an IPv6 address gets brackets."""
    address = ip_of(host)
    return f"[{host}]:{port}" if address is not None and address.version == 6 else f"{host}:{port}"


def check_hosts(federation: FederationConfig) -> None:
    """Check who listens where, and who the clients are.

    Raises
    ------
    ConfigError
        One sentence that names the key.
    """
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
