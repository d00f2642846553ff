"""Keys and names at the SuperLink: what is registered, what is replaced, who is who then."""

from pathlib import Path

import pytest

from fedrsclip.deploy import registration
from fedrsclip.deploy.keys import public_key, write_node_key
from fedrsclip.deploy.registration import Registration
from fedrsclip.deploy.start import wait_for
from fedrsclip.run.connection import Node
from fedrsclip_core.errors import ConfigError, RunError
from server_app.registry import Registered, Registry

pytestmark = pytest.mark.unit


class SuperLink:
    """A SuperLink's registered nodes; ``away`` times it does not answer."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.known, self._next = away, dict[int, Node](), 10
        self.asked = 0

    def nodes(self) -> list[Node]:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise RunError("SuperLink is not available")
        return list(self.known.values())

    def register(self, key: Path, name: str) -> int:
        self._next += 1
        self.known[self._next] = {
            "node_id": self._next,
            "name": name,
            "key": public_key(key),
            "status": "registered",
            "online_at": "",
            "offline_at": "",
        }
        return self._next

    def unregister(self, node_id: int) -> None:
        self.known[node_id]["status"] = "unregistered"


class Server:
    """A server's folder of keys, its registry, and what is said."""

    def __init__(self, root: Path, clients: tuple[str, ...] = ("north", "south")) -> None:
        self.root, self.superlink, self.said = root, SuperLink(), list[str]()
        (root / "keys").mkdir()
        self.registry = Registry(root / "registry.json")
        self.registration = Registration(
            self.superlink,  # type: ignore[arg-type]
            root / "keys",
            clients,
            self.registry,
            self.said.append,
        )

    def key(self, name: str) -> None:
        line = write_node_key(self.root / name)
        (self.root / "keys" / f"{name}.pub").write_bytes(line)

    def names(self) -> dict[int, tuple[str, int | None]]:
        nodes = self.registry.nodes()
        return {node: (one.client_name, one.partition_id) for node, one in nodes.items()}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = Server(tmp_path)
    made.key("south")
    made.key("north")
    return made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "_BETWEEN_TRIES", 0.0)


def test_each_key_is_registered_once_with_its_name_and_partition(server: Server) -> None:
    server.registration.once()
    assert server.names() == {11: ("north", 0), 12: ("south", 1)}
    assert server.said == ["north: registered", "south: registered"]
    server.said.clear()
    server.registration.once()
    assert len(server.superlink.known) == 2
    assert server.said == ["north: is registered already", "south: is registered already"]


def test_a_lost_registry_is_written_again(server: Server) -> None:
    server.registration.once()
    before = server.names()
    server.registry.path.unlink()
    server.registration.once()
    assert server.names() == before


def test_a_new_key_takes_the_name_and_the_old_one_is_shut_out(server: Server) -> None:
    server.registration.once()
    server.key("north")
    server.registration.once()
    assert server.names() == {13: ("north", 0), 12: ("south", 1)}
    assert server.superlink.known[11]["status"] == "unregistered"
    assert server.said[-3:] == [
        "north: registered",
        "south: is registered already",
        "north: its earlier key is no longer registered",
    ]


def test_a_key_that_was_unregistered_by_hand_is_registered_again(server: Server) -> None:
    server.registration.once()
    server.superlink.unregister(11)
    server.registration.once()
    assert server.names() == {13: ("north", 0), 12: ("south", 1)}


def test_a_client_whose_key_is_taken_away_is_shut_out(server: Server) -> None:
    server.registration.once()
    (server.root / "keys" / "north.pub").unlink()
    server.registration.once()
    assert server.names() == {12: ("south", 1)}
    assert server.superlink.known[11]["status"] == "unregistered"
    assert "north: its key is gone and it is no longer registered" in server.said


def test_a_missing_key_is_waited_for_and_a_strangers_is_left(server: Server) -> None:
    (server.root / "keys" / "south.pub").unlink()
    server.key("east")
    server.registration.once()
    assert server.names() == {11: ("north", 0)}
    assert any(line.startswith("south: waiting for its key") for line in server.said)
    assert any("east.pub is the key of no client" in line for line in server.said)


def test_without_a_description_names_have_no_partition(tmp_path: Path) -> None:
    server = Server(tmp_path, clients=())
    server.key("north")
    server.registration.once()
    assert server.registry.nodes() == {11: Registered("north", None)}


def test_a_superlink_that_starts_is_waited_for(server: Server) -> None:
    server.superlink.away = 3
    server.registration.once()
    assert server.said[:2] == [
        "waiting for the SuperLink: SuperLink is not available",
        "north: registered",
    ]
    server.superlink.away = 100
    with pytest.raises(RunError, match="is not available"):
        server.registration.once(patience=0.0)


def test_two_registrations_at_once_agree(server: Server) -> None:
    register = server.superlink.register

    def be_late(key: Path, name: str) -> int:
        register(key, name)
        raise RunError("the key is already in use")

    server.superlink.register = be_late  # type: ignore[method-assign]
    server.registration.once()
    assert server.names() == {11: ("north", 0), 12: ("south", 1)}


def test_no_key_and_a_damaged_key_are_sentences(server: Server, tmp_path: Path) -> None:
    (server.root / "keys" / "south.pub").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"south\.pub is no public key in OpenSSH's format"):
        server.registration.once()
    for file in (server.root / "keys").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="holds no public key"):
        server.registration.once()


class EndError(Exception):
    pass


def test_keys_are_kept_registered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    def sleep(seconds: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            assert server.superlink.asked == 2  # once in vain; an unchanged folder asks nobody
            (server.root / "keys" / "south.pub").write_text("damaged")
        if turns == 6:
            server.key("south")
        if turns == 9:
            raise EndError

    server.superlink.away = 1
    monkeypatch.setattr(registration.time, "sleep", sleep)
    with pytest.raises(EndError):
        server.registration.keep()
    assert sum("is no public key" in line for line in server.said) == 1
    assert server.names() == {11: ("north", 0), 13: ("south", 1)}
    assert server.superlink.known[12]["status"] == "unregistered"


def test_what_is_missing_is_said_once_and_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "server.key"
    turns = 0

    def sleep(seconds: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 4:
            file.touch()

    wait_for(["sh", str(file)], said.append, sleep)
    assert turns == 4 and len(said) == 1
    assert said[0].startswith(f"waiting for {file}: make it by `fedrsclip deploy certs`")

    def give_up(seconds: float) -> None:
        raise EndError

    with pytest.raises(EndError):
        wait_for(["no-such-program"], said.append, give_up)
    assert said[-1].startswith("waiting for the program no-such-program: install it")
