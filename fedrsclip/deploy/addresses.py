"""DNS names and IP addresses."""

import ipaddress
import re

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
