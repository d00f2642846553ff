"""`fedrsclip deploy register`: the clients' public keys at the SuperLink, and who bears which name.

The SuperLink is asked what it knows, so that nothing depends on what was done before: a key that
is registered already only enters the registry, and one that was replaced or taken away is
unregistered.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip.deploy.keys import public_key
from fedrsclip.run.connection import Connection, Node
from fedrsclip_core.errors import ConfigError, FedRSCLIPError, RunError
from server_app.registry import Registered, Registry

Echo = Callable[[str], None]

_UNREGISTERED = "unregistered"
_BETWEEN_TRIES, _BETWEEN_LOOKS = 3.0, 2.0
_PATIENCE = 120.0
"""Seconds that one registration waits for a SuperLink that is still starting."""


@dataclass(frozen=True)
class Registration:
    """Whose keys are registered where.

    Attributes
    ----------
    connection : Connection
        The SuperLink.
    keys : Path
        Folder with a public key for each client, ``<client>.pub``.
    clients : Sequence[str]
        The clients in the order of their partitions; empty: each key's client, without a partition.
    registry : Registry or None
        Where to write which node is which client.
    echo : Callable[[str], None]
        Is told what was done, and what is waited for.
    """

    connection: Connection
    keys: Path
    clients: Sequence[str]
    registry: Registry | None
    echo: Echo

    def once(self, patience: float = _PATIENCE) -> None:
        """Register all keys, as soon as the SuperLink answers.

        Raises
        ------
        ConfigError
            If there is no key, or one is damaged.
        RunError
            If the SuperLink does not answer for ``patience`` seconds, or refuses.
        """
        if not self._files():
            raise ConfigError(f"keys={self.keys} holds no public key, *.pub")
        self.register(self._nodes(patience))

    def keep(self, database: Path | None = None) -> None:
        """Register all keys, and again whenever one is added or changed, until this is ended.

        Parameters
        ----------
        database : Path or None
            The SuperLink's: all are registered again, too, when it is another file than before.
        """
        told, known = "", None
        while True:
            try:
                files = {file: file.stat().st_mtime_ns for file in self._files()}
                found = files, database and database.exists() and database.stat().st_ino
                # No key at all is a folder that is not there, not a federation that was left.
                if files and found != known:
                    self.register(self._nodes(math.inf))
                    known, told = found, ""
            except (FedRSCLIPError, OSError) as error:
                told = self._tell(str(error), told)
            time.sleep(_BETWEEN_LOOKS)

    def register(self, nodes: Sequence[Node]) -> None:
        """Register what is not, unregister what was replaced or is gone, and write the registry.

        Parameters
        ----------
        nodes : Sequence[Node]
            What the SuperLink knows.

        Raises
        ------
        ConfigError
            If a key is damaged.
        RunError
            If the SuperLink refuses.
        """
        known = {node["key"]: node["node_id"] for node in nodes}
        keys = {file.stem: public_key(file) for file in self._ours()}
        found = {known[key]: self._client(name) for name, key in keys.items() if key in known}
        self._write(found)
        for name, key in keys.items():
            if key not in known:
                found[self._new_node(name, key)] = self._client(name)
                # At once, so that its site is believed when it comes.
                self._write(found)
            self.echo(f"{name}: {'is registered already' if key in known else 'registered'}")
        for node in nodes:
            name = node["name"]
            if name in (*self.clients, *keys) and keys.get(name) != node["key"]:
                self.connection.unregister(node["node_id"])
                what = "its earlier key is" if name in keys else "its key is gone and it is"
                self.echo(f"{name}: {what} no longer registered")
        for name in self.clients:
            if name not in keys:
                self.echo(f"{name}: waiting for its key, {self.keys / f'{name}.pub'}")

    def _new_node(self, name: str, key: str) -> int:
        try:
            return self.connection.register(self.keys / f"{name}.pub", name)
        except RunError:
            # Another registration may have been quicker.
            for node in self._nodes(0.0):
                if node["key"] == key:
                    return node["node_id"]
            raise

    def _client(self, name: str) -> Registered:
        return Registered(name, self.clients.index(name) if self.clients else None)

    def _write(self, found: Mapping[int, Registered]) -> None:
        if self.registry is not None:
            self.registry.write(found)

    def _nodes(self, patience: float) -> list[Node]:
        """Return the registered nodes, as soon as the SuperLink answers."""
        deadline, told = time.monotonic() + patience, ""
        while True:
            try:
                return [node for node in self.connection.nodes() if node["status"] != _UNREGISTERED]
            except RunError as error:
                if time.monotonic() >= deadline:
                    raise
                told = self._tell(f"waiting for the SuperLink: {error}", told)
            time.sleep(_BETWEEN_TRIES)

    def _tell(self, line: str, told: str) -> str:
        if line != told:
            self.echo(line)
        return line

    def _files(self) -> list[Path]:
        return sorted(self.keys.glob("*.pub"))

    def _ours(self) -> Iterator[Path]:
        for file in self._files():
            if self.clients and file.stem not in self.clients:
                self.echo(f"{file} is the key of no client of this federation: not registered")
            else:
                yield file
