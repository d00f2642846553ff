"""`fedrsclip deploy certs`: every key where it belongs, and none overwritten unasked."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedrsclip.deploy import addresses, keys
from fedrsclip.deploy.description import SERVER, Description
from fedrsclip.deploy.folder import make_private
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs.fileio import write_bytes

DEFAULT_DAYS = 730
_AUTHORITY_DAYS = 3650
_SECRET_BYTES = 32
_EXPIRES_SOON = timedelta(days=30)

Echo = Callable[[str], None]


def make_keys(
    description: Description, folder: Path, *, days: int, rotate: str | None, echo: Echo
) -> None:
    """Make what is missing: authority, server certificate, keys of clients, secrets of hosts.

    Parameters
    ----------
    description : Description
        Whose keys.
    folder : Path
        The output folder of `fedrsclip deploy`.
    days : int
        Validity of the server's certificate.
    rotate : str or None
        ``server`` or a client, whose key is replaced.

    Raises
    ------
    ConfigError
        If ``rotate`` names nobody, or what is there does not fit together.
    """
    hosts = [folder / SERVER, *(folder / "clients" / name for name in description.clients)]
    if rotate is not None and rotate not in (SERVER, *description.clients):
        raise ConfigError(
            f"rotate={rotate} names nobody here: choose one of "
            f"{', '.join((SERVER, *description.clients))}"
        )
    for host in hosts:
        make_private(host)
        _secret(host / "secret" / "superexec")
    if description.federation.insecure:
        if rotate is not None:
            raise ConfigError("federation.insecure is true: there are no keys to rotate")
        echo("federation.insecure is true: made the secrets, no keys and no certificate")
        return
    _authority(description, folder, days, echo)
    _server(description, folder, days, rotate == SERVER, echo)
    for client in description.clients:
        _client(folder, client, rotate == client, echo)
    authority = (folder / "ca" / "ca.crt").read_bytes()
    for host in (*hosts, folder / "admin"):
        write_bytes(host / "tls" / "ca.crt", authority, mode=keys.PUBLIC)


def _authority(description: Description, folder: Path, days: int, echo: Echo) -> None:
    key, certificate = folder / "ca" / "ca.key", folder / "ca" / "ca.crt"
    if certificate.exists():
        return
    if key.exists() or (folder / SERVER / "tls" / "server.key").exists():
        raise ConfigError(
            f"{certificate} is missing but its key or a server certificate is there: bring it "
            "back, or delete ca/ and server/tls/ by hand for a new authority"
        )
    make_private(folder / "ca")
    name = description.federation.name
    keys.write_authority(key, certificate, name, max(days + 1, _AUTHORITY_DAYS))
    echo(f"made the authority {certificate}; {key} goes to no host: keep it offline")


def _server(description: Description, folder: Path, days: int, rotate: bool, echo: Echo) -> None:
    key, certificate = (folder / SERVER / "tls" / f"server.{kind}" for kind in ("key", "crt"))
    if key.exists() and certificate.exists() and not rotate:
        _check_server(description, certificate, echo)
        return
    authority_key = folder / "ca" / "ca.key"
    if not authority_key.exists():
        raise ConfigError(
            f"{authority_key} is not here: a server certificate needs it; bring it back from where "
            "you keep it"
        )
    make_private(key.parent)
    names = description.server_names
    keys.write_server(authority_key, folder / "ca" / "ca.crt", key, certificate, names, days)
    echo(f"made {certificate} for {', '.join(names)}, valid for {days} days")


def _check_server(description: Description, file: Path, echo: Echo) -> None:
    certificate = keys.read_certificate(file)
    wanted = {str(addresses.ip_of(name) or name) for name in description.server_names}
    missing = sorted(wanted - keys.names_of(certificate))
    if missing:
        raise ConfigError(
            f"{file} is not for {', '.join(missing)}: make a new one by "
            "`fedrsclip deploy certs rotate=server out=...`"
        )
    expires = certificate.not_valid_after_utc
    if expires - datetime.now(UTC) < _EXPIRES_SOON:
        echo(f"{file} expires on {expires:%Y-%m-%d}: rotate=server makes a new one")
    else:
        echo(f"kept {file}, valid until {expires:%Y-%m-%d}")


def _client(folder: Path, client: str, rotate: bool, echo: Echo) -> None:
    private = folder / "clients" / client / "keys" / client
    public = folder / SERVER / "keys" / f"{client}.pub"
    if public.exists() and not private.exists() and not rotate:
        echo(f"kept {public}: {client} has its private key to itself")
        return
    if rotate or not private.exists():
        make_private(private.parent)
        line = keys.write_node_key(private)
        write_bytes(public, line, mode=keys.PUBLIC)
        echo(f"made {private}")
        if rotate:
            echo(
                f"send it to {client} and server/keys to the server, whose start registers it: see "
                "README.md"
            )
        return
    line = keys.public_line_of(private)
    if not public.exists():
        write_bytes(public, line, mode=keys.PUBLIC)
    elif public.read_bytes().split()[:2] != line.split()[:2]:
        raise ConfigError(
            f"{public} is not the public key of {private}: delete the one that is wrong by hand, "
            f"or make both new by rotate={client}"
        )
    echo(f"kept {private}; rotate={client} makes a new one")


def _secret(file: Path) -> None:
    """Make what a host's SuperExec proves itself with; each host has its own."""
    if not file.exists():
        make_private(file.parent)
        write_bytes(file, secrets.token_hex(_SECRET_BYTES).encode(), mode=keys.PRIVATE)
