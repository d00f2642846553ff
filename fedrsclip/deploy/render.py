"""Scripts, units and configuration files of each host."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.deploy import addresses
from fedrsclip.deploy.description import SERVER, Description
from fedrsclip.deploy.folder import make_private, write_kept
from fedrsclip.deploy.proxy import Proxy, listen_on, nginx_conf
from fedrsclip.deploy.templates import fill
from fedrsclip.run.submission import DEPLOY_KEYS
from fedrsclip_core.config.overrides import key_of
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

_REGISTRY = 'export FEDRSCLIP_REGISTRY="$FEDRSCLIP_HOME/registry.json"'
_KEPT = {
    True: "SuperLink, SuperExec, proxy and the registration of keys",
    False: "SuperLink, SuperExec and proxy",
}


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
    values["registry"] = _REGISTRY if secure else "# Without keys every client may be who it says."
    tls = _SERVER_TLS if secure else "--insecure"
    yield _script("server/superlink.sh", "superlink.sh", "server.env", tls=tls, **values)
    tls = _authority(secure)
    yield _script("server/superexec.sh", "server_superexec.sh", "server.env", tls=tls, **values)
    yield _script("server/proxy.sh", "proxy.sh", "server.env")
    yield _connection("server", "server.env", description)
    programs = ["superlink", "superexec", "proxy"]
    if secure:
        values |= {"superlink": _superlink(federation), "clients": ",".join(description.clients)}
        for name in ("register", "keys"):
            yield _script(f"server/{name}.sh", f"{name}.sh", "server.env", **values)
        programs.append("keys")
    yield _start("server/start", "server_start", "server.env", **_kept_running(programs, secure))
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
    yield _unit("server", f"fedrsclip-{name}-server", name, "server")
    yield Rendered("server/install-units.sh", fill("install-units.sh"), _SCRIPT)


def _kept_running(programs: Sequence[str], secure: bool) -> dict[str, object]:
    """Return what the server's start waits for and keeps running."""
    files = ["secret/superexec"]
    if secure:
        files += ["tls/ca.crt", "tls/server.crt", "tls/server.key"]
    return {
        "kept": _KEPT[secure],
        "needs": " ".join(["needs=nginx", *(f'needs="$here/{file}"' for file in files)]),
        "programs": " ".join(f'{name}="$here/{name}.sh"' for name in programs),
    }


def _client(description: Description, client: str, partition: int) -> Iterator[Rendered]:
    name = description.federation.name
    place = f"clients/{client}"
    needed = _needed(description)
    yield from _client_scripts(description, client, partition, needed)
    data_needed, model_needed = (
        "; needed" if f"FEDRSCLIP_{what}_PATH" in needed else "; not needed by this federation"
        for what in ("DATA", "MODEL")
    )
    environment = fill(
        "site.env",
        data_needed=data_needed,
        model_needed=model_needed,
        # Apart from each other's, so that two clients may share a machine.
        supernode_port=_FIRST_SUPERNODE_PORT + partition,
    )
    yield Rendered(f"{place}/site.env", environment, kept=True)
    policy = fill("site.yaml", client=client, name=name)
    yield Rendered(f"{place}/site.yaml", policy, kept=True)
    yield _unit(place, f"fedrsclip-{name}-{client}", name, f"site {client}")
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
        "checks": "\n".join(f': "${{{name}:?{_fill_in(name)}}}"' for name in needed),
        "overrides": _overrides(description),
    }
    yield _start(f"clients/{client}/start", "client_start", "site.env", **values)
    for script in ("supernode", "superexec", "check", "log", "fedrsclip"):
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
    """Return what describes the run; the addresses of hosts do not, and are put in by nobody."""
    hosts = {f"federation.{key}" for key in DEPLOY_KEYS}
    kept = [text for text in description.overrides if key_of(text) not in hosts]
    return _LINE.join(map(shlex.quote, kept))


def _fill_in(name: str) -> str:
    return f"give it as ./start {name}=<folder>, or in site.env"


def _script(path: str, template: str, env_file: str, **values: object) -> Rendered:
    process, given = values.pop("process", Path(path).stem), values.pop("given", "")
    header = fill("header.sh", env_file=env_file, process=process, given=given).rstrip("\n")
    return Rendered(path, fill(template, header=header, **values), _SCRIPT)


def _start(path: str, template: str, env_file: str, **values: object) -> Rendered:
    """Return a host's start, which takes values for its env file."""
    given = fill("given.sh", env_file=env_file)
    return _script(path, template, env_file, given=given, **values)


def _unit(place: str, unit: str, name: str, what: str) -> Rendered:
    text = fill("unit.service", name=name, what=what)
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
    values = "".join(f" {name}=<folder>" for name in _needed(description))
    return fill(
        "README.md",
        name=federation.name,
        address=federation.address,
        port=federation.port,
        superlink_port=federation.superlink_port,
        client_rows="\n".join(rows),
        warning=_WARNING if insecure else "",
        keys_step=f"make {_MADE[insecure]}.",
        send="\n".join(_sending(description)),
        sites="\n".join(f"{name}/start{values}" for name in description.clients),
        registers="" if insecure else _REGISTERS,
        keys_section="" if insecure else fill("keys.md"),
    )


def _sending(description: Description) -> Iterator[str]:
    """Yield the commands that make the keys and hand the folders over."""
    yield "fedrsclip deploy certs out=."
    yield f"scp -rp server admin {description.federation.address}:"
    for name in description.clients:
        yield f"scp -rp clients/{name} <host of {name}>:"


def _needed(description: Description) -> list[str]:
    """Return what every site has to say."""
    config = description.config
    needed = {
        "FEDRSCLIP_DATA_PATH": config.data.name == "folder",
        "FEDRSCLIP_MODEL_PATH": config.model.name == "local",
    }
    return [variable for variable, wanted in needed.items() if wanted]


_WARNING = (
    "**No TLS and no node authentication: whoever is on the way reads and changes what is sent.**\n"
)
_MADE = {False: "the authority, the certificate, the keys and secrets", True: "the secrets"}
_REGISTERS = (
    "The server's registers the keys in\n  `server/keys`, and each that is added or changed there."
)
