"""The reverse proxy that publishes Flower's Fleet API and nothing else."""

from dataclasses import dataclass

from fedrsclip.deploy import addresses
from fedrsclip.deploy.templates import fill


@dataclass(frozen=True)
class Proxy:
    """Where the proxy listens and what it stands before; relative paths are from its own folder.

    Attributes
    ----------
    listen : str
        nginx's ``listen`` without ``ssl``: a port or ``address:port``.
    upstream : str
        ``host:port`` of the SuperLink.
    certificate, key : str or None
        PEM files of the proxy; ``None``: no TLS, neither here nor to the SuperLink.
    authority : str
        PEM file with which the SuperLink's certificate is checked.
    upstream_name : str
        The name that must be in the SuperLink's certificate.
    resolver : str or None
        Address of a DNS server that is asked for the upstream again and again; ``None``: its
        address never changes.
    num_classes : int
        Classes of the federation, 0 if the description does not say: bounds what a site sends.
    """

    listen: str
    upstream: str
    certificate: str | None
    key: str | None
    authority: str = "../tls/ca.crt"
    upstream_name: str = "localhost"
    resolver: str | None = None
    num_classes: int = 0


_WIDEST = 1280
"""Numbers for each class, or in each prompt vector, of the largest CLIP."""
_FLOAT32 = 4
_LEAST_OBJECT = 2 * 2**20
_BESIDE_CLASSES = 2**20
"""Bytes, more than 77 prompt vectors and Flower's frame around a tensor."""

_TLS = """\
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:fleet:2m;
"""
_UPSTREAM_TLS = """\
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_name {upstream_name};
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
"""
_GROUP = """\
    upstream superlink {{
        server {upstream};
        keepalive 16;
        # Shorter than the 5 seconds after which the SuperLink hangs up.
        keepalive_timeout 2s;
    }}
"""
# No upstream group: nginx asks for a group's addresses only once, when it starts.
_RESOLVER = """\
    resolver {resolver} valid=5s;
"""


def nginx_conf(proxy: Proxy) -> str:
    """Return the whole configuration file for nginx."""
    secure = proxy.certificate is not None
    return fill(
        "nginx.conf",
        listen=f"{proxy.listen} ssl" if secure else proxy.listen,
        upstream_group=_GROUP.format(upstream=proxy.upstream)
        if proxy.resolver is None
        else _RESOLVER.format(resolver=proxy.resolver),
        object_kib=largest_object(proxy.num_classes) // 1024,
        target="superlink" if proxy.resolver is None else proxy.upstream,
        scheme="https" if secure else "http",
        tls=_TLS.format(certificate=proxy.certificate, key=proxy.key) if secure else "",
        upstream_tls=_UPSTREAM_TLS.format(
            authority=proxy.authority, upstream_name=proxy.upstream_name
        )
        if secure
        else "",
    )


def largest_object(num_classes: int) -> int:
    """Return how many bytes a site may send at once: its offsets of all classes fit."""
    offsets = num_classes * _WIDEST * _FLOAT32
    return max(_LEAST_OBJECT, _BESIDE_CLASSES + offsets)


def listen_on(address: str, port: int) -> str:
    """Return where a proxy listens that clients reach as ``address``.

    On the loopback only if that is the address; else on all addresses, of IPv6 too if the address
    is one of IPv6.
    """
    if addresses.is_loopback(address):
        return addresses.with_port("127.0.0.1" if address == "localhost" else address, port)
    ip = addresses.ip_of(address)
    return f"[::]:{port} ipv6only=off" if ip is not None and ip.version == 6 else str(port)
