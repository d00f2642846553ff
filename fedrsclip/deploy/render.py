"""Scripts, units and configuration files of each host."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.deploy import addresses
from fedrsclip.deploy.description import SERVER, Description
from fedrsclip.deploy.folder import make_private, write_kept
from fedrsclip.deploy.proxy import Proxy, listen_on, nginx_conf
from fedrsclip.deploy.templates import fill
from fedrsclip.run.submission import without_hosts
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.runs.fileio import write_text

_SCRIPT = 0o755
_TEXT = 0o644
_FIRST_SUPERNODE_PORT = 9094
_LINE = " \\\n    "
_SERVER_TLS = _LINE.join(
    (
        '--ssl-ca-certfile "$here/tls/ca.crt"',
        '--ssl-certfile "$here/tls/server.crt"',
        '--ssl-keyfile "$here/tls/server.key"',
        "--enable-supernode-auth",
    )
)


@dataclass(frozen=True)
class Rendered:
    """One file: its path below the output folder, text and permissions."""

    path: str
    text: str
    mode: int = _TEXT
    # Edited by people: written only where it is missing.
    kept: bool = False


def render(description: Description, folder: Path) -> None:
    """Write everything but keys and secrets; what people edit is left as it is."""
    hosts = [folder / host for host in (SERVER, "admin", *_clients(description))]
    for host in hosts:
        make_private(host)
    rendered = list(files(description))
    for file in rendered:
        if file.kept:
            write_kept(folder / file.path, file.text, mode=file.mode)
        else:
            write_text(folder / file.path, file.text, mode=file.mode)
    # install-units.sh takes every unit that it finds, those of an older version as well.
    paths = {folder / file.path for file in rendered}
    for unit in (unit for host in hosts for unit in host.glob("systemd/*.service")):
        if unit not in paths:
            unit.unlink()


def _clients(description: Description) -> list[str]:
    return [f"clients/{name}" for name in description.clients]


def files(description: Description) -> Iterator[Rendered]:
    """Return every file that is rendered from text."""
    yield Rendered("README.md", _readme(description))
    yield from _server(description)
    for partition, client in enumerate(description.clients):
        yield from _client(description, client, partition)
    yield from _admin(description)


def _server(description: Description) -> Iterator[Rendered]:
    federation = description.federation
    secure = not federation.insecure
    values: dict[str, object] = {
        "name": federation.name,
        "superlink_port": federation.superlink_port,
    }
    tls = _SERVER_TLS if secure else "--insecure"
    yield _script("server/superlink.sh", "superlink.sh", "server.env", tls=tls, **values)
    tls = _authority(secure)
    yield _script("server/superexec.sh", "server_superexec.sh", "server.env", tls=tls, **values)
    yield _script("server/proxy.sh", "proxy.sh", "server.env")
    yield _connection("server", "server.env", description)
    if secure:
        superlink = _superlink(federation)
        yield _script("server/register.sh", "register.sh", "server.env", superlink=superlink)
    yield Rendered("server/server.env", fill("server.env"), kept=True)
    yield Rendered(
        "server/proxy/nginx.conf",
        nginx_conf(
            Proxy(
                listen=listen_on(federation.address, federation.port),
                upstream=f"127.0.0.1:{federation.superlink_port}",
                certificate="../tls/server.crt" if secure else None,
                key="../tls/server.key" if secure else None,
                num_classes=len(description.config.data.class_names),
            )
        ),
    )
    name = federation.name
    superlink = f"fedrsclip-{name}-superlink"
    yield _unit("server", superlink, "superlink.sh", name, "SuperLink")
    yield _unit(
        "server", f"fedrsclip-{name}-superexec", "superexec.sh", name, "SuperExec", superlink
    )
    yield _unit("server", f"fedrsclip-{name}-proxy", "proxy.sh", name, "proxy", superlink)
    yield Rendered("server/install-units.sh", fill("install-units.sh"), _SCRIPT)


def _client(description: Description, client: str, partition: int) -> Iterator[Rendered]:
    config, name = description.config, description.federation.name
    place = f"clients/{client}"
    needed = {
        "FEDRSCLIP_DATA_PATH": config.data.name == "folder",
        "FEDRSCLIP_MODEL_PATH": config.model.name == "local",
    }
    missing = [variable for variable, wanted in needed.items() if wanted]
    yield from _client_scripts(description, client, partition, missing)
    said = [
        "; needed" if wanted else "; not needed by this federation" for wanted in needed.values()
    ]
    environment = fill(
        "site.env",
        data_needed=said[0],
        model_needed=said[1],
        # Apart from each other's, so that two clients may share a machine.
        supernode_port=_FIRST_SUPERNODE_PORT + partition,
    )
    yield Rendered(f"{place}/site.env", environment, kept=True)
    policy = fill("site.yaml", client=client, name=name)
    yield Rendered(f"{place}/site.yaml", policy, kept=True)
    yield _unit(place, f"fedrsclip-{name}-{client}", "start", name, f"site {client}")
    yield Rendered(f"{place}/install-units.sh", fill("install-units.sh"), _SCRIPT)


def _client_scripts(
    description: Description, client: str, partition: int, needed: list[str]
) -> Iterator[Rendered]:
    federation = description.federation
    secure = not federation.insecure
    key = f'--auth-supernode-private-key "$here/keys/{client}"'
    server = addresses.with_port(federation.address, federation.port)
    known = f"export FEDRSCLIP_SERVER='{server}'"
    if secure:
        known += ' FEDRSCLIP_CA="$here/tls/ca.crt"'
    values: dict[str, object] = {
        "client": client,
        "tls": f"{_authority(True)}{_LINE}{key}" if secure else "--insecure",
        "server": server,
        "known": known,
        "partition": partition,
        "partitions": federation.num_clients,
        "checks": "\n".join(f': "${{{name}:?fill it in in site.env}}"' for name in needed),
        "overrides": _overrides(description),
    }
    yield _script(f"clients/{client}/start", "client_start", "site.env", **values)
    for script in ("supernode", "superexec", "check", "log"):
        template = "client_superexec.sh" if script == "superexec" else f"{script}.sh"
        yield _script(f"clients/{client}/{script}.sh", template, "site.env", **values)


def _admin(description: Description) -> Iterator[Rendered]:
    federation = description.federation
    yield Rendered("admin/admin.env", fill("admin.env"), kept=True)
    yield _connection("admin", "admin.env", description)
    yield _script(
        "admin/submit.sh",
        "submit.sh",
        "admin.env",
        name=federation.name,
        superlink=_superlink(federation),
        overrides=_overrides(description),
    )


def _connection(host: str, env_file: str, description: Description) -> Rendered:
    federation = description.federation
    return _script(
        f"{host}/flower.sh",
        "flower.sh",
        env_file,
        process="cli",
        name=federation.name,
        superlink_port=federation.superlink_port,
        connection="insecure = true"
        if federation.insecure
        else "root-certificates = '$here/tls/ca.crt'",
    )


def _superlink(federation: FederationConfig) -> str:
    """Return the options by which `fedrsclip submit` finds the SuperLink from its own machine."""
    secure = "insecure=true" if federation.insecure else 'root_certificates="$here/tls/ca.crt"'
    return f"address=127.0.0.1:{federation.superlink_port} {secure}"


def _overrides(description: Description) -> str:
    return _LINE.join(map(shlex.quote, without_hosts(description.config, description.overrides)))


def _script(path: str, template: str, env_file: str, **values: object) -> Rendered:
    process = values.pop("process", Path(path).stem)
    header = fill("header.sh", env_file=env_file, process=process).rstrip("\n")
    return Rendered(path, fill(template, header=header, **values), _SCRIPT)


def _unit(place: str, unit: str, script: str, name: str, what: str, after: str = "") -> Rendered:
    text = fill(
        "unit.service",
        name=name,
        what=what,
        script=script,
        after=f" {after}.service" if after else "",
    )
    return Rendered(f"{place}/systemd/{unit}.service", text)


def _authority(secure: bool) -> str:
    return '--root-certificates "$here/tls/ca.crt"' if secure else "--insecure"


def _readme(description: Description) -> str:
    federation = description.federation
    rows = [
        f"| `clients/{name}/` | the site {name} | SuperNode, SuperExec |"
        for name in description.clients
    ]
    insecure = federation.insecure
    return fill(
        "README.md",
        name=federation.name,
        address=federation.address,
        port=federation.port,
        superlink_port=federation.superlink_port,
        client_rows="\n".join(rows),
        warning=_WARNING if insecure else "",
        keys_step=f"`fedrsclip deploy certs out=<this folder>`: makes {_MADE[insecure]}.",
        register_step="" if insecure else _REGISTER,
        keys_section="" if insecure else fill("keys.md"),
    )


_WARNING = (
    "**No TLS and no node authentication: whoever is on the way reads and changes what is sent.**\n"
)
_MADE = {False: "the authority, the certificate, the keys and secrets", True: "the secrets"}
_REGISTER = (
    "5. `./register.sh` registers the clients' keys: once, and again after a key has changed.\n"
    "   A client that is not registered is refused."
)
