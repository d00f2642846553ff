"""`fedrsclip deploy`, and with it `certs`, `register`, `nodes` and `start`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fedrsclip.deploy.description import Description, describe, notes
from fedrsclip.deploy.folder import claim, known_overrides
from fedrsclip.deploy.start import start
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

_CERTS, _REGISTER, _NODES, _START = "certs", "register", "nodes", "start"


def deploy(arguments: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Render a federation's hosts, make their keys (``certs``), or do what a server does.

    That is to register keys (``register``), to say who is connected (``nodes``), and to keep the
    server's programs running (``start``).

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    others = {_REGISTER: _register, _NODES: _nodes, _START: start}
    if other := others.get("".join(arguments[:1])):
        return other(arguments[1:], echo)
    certs = list(arguments[:1]) == [_CERTS]
    overrides, options = _split(arguments[1:] if certs else arguments, certs)
    if "out" not in options:
        raise ConfigError("out is not set: give the folder to write to, as in out=sites")
    folder = paths.outside_app(paths.place(options["out"], "out").resolve(), "out")
    return (
        _make_keys(folder, overrides, options, echo) if certs else _render(folder, overrides, echo)
    )


def _render(folder: Path, overrides: list[str], echo: Callable[[str], None]) -> int:
    from fedrsclip.deploy.render import render

    description = describe(overrides)
    claim(folder, description.federation.name, description.overrides)
    render(description, folder)
    for note in notes(description.config):
        echo(f"note: {note}")
    for stale in _stale(folder, description):
        echo(f"note: {stale} is no client of this federation any more: delete it by hand")
    echo(f"rendered {len(description.clients)} clients and the server into {folder}")
    echo(f"next: fedrsclip deploy certs out={folder}; then read {folder / 'README.md'}")
    return 0


def _make_keys(
    folder: Path, overrides: list[str], options: dict[str, str], echo: Callable[[str], None]
) -> int:
    from fedrsclip.deploy.certs import DEFAULT_DAYS, make_keys

    description = describe(overrides or (known_overrides(folder) if folder.is_dir() else []))
    claim(folder, description.federation.name, description.overrides)
    days = options.get("days", str(DEFAULT_DAYS))
    if not days.isdecimal() or not 0 < int(days) <= 36500:
        raise ConfigError(f"days is {days!r}: give a number of days from 1 to 36500")
    make_keys(description, folder, days=int(days), rotate=options.get("rotate"), echo=echo)
    return 0


def _register(arguments: Sequence[str], echo: Callable[[str], None]) -> int:
    """Register the clients' public keys, once or (``keep=true``) whenever one is added or changed.

    What is registered already is left as it is, and only entered in the registry.
    """
    from fedrsclip.deploy.registration import Registration
    from fedrsclip.run.connection import connect
    from fedrsclip.run.staging import scratch_folder
    from server_app.registry import registry_of_server

    options = dict(argument.partition("=")[::2] for argument in arguments)
    if "keys" not in options:
        raise ConfigError("keys is not set: give the folder with the clients' public keys")
    clients = [name for name in options.get("clients", "").split(",") if name]
    with scratch_folder() as scratch:
        registration = Registration(
            connect(options, scratch),
            paths.place(options["keys"], "keys").resolve(),
            clients,
            registry_of_server(),
            echo,
        )
        if options.get("keep") == "true":
            registration.keep(Path(options["database"]) if "database" in options else None)
        registration.once()
    return 0


def _nodes(arguments: Sequence[str], echo: Callable[[str], None]) -> int:
    """Say who is connected, by name."""
    from fedrsclip.watch import nodes
    from fedrsclip_core.printable import printable

    options = dict(argument.partition("=")[::2] for argument in arguments)
    if options.keys() != {"connection"}:
        raise ConfigError("give connection=<a name in Flower's config.toml>")
    for line in nodes.lines(options["connection"])[1:]:
        echo(printable(line))
    return 0


def _split(arguments: Sequence[str], certs: bool) -> tuple[list[str], dict[str, str]]:
    """Part Hydra's overrides from this command's own options."""
    names = ("out", "days", "rotate") if certs else ("out",)
    overrides: list[str] = []
    options: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in names and value:
            options[name] = value
        else:
            overrides.append(argument)
    return overrides, options


def _stale(folder: Path, description: Description) -> list[Path]:
    found = (path for path in (folder / "clients").iterdir() if path.is_dir())
    return sorted(path for path in found if path.name not in description.clients)
