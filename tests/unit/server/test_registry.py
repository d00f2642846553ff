"""Names are bound to registered nodes: who bears another's is refused, alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedrsclip_core.errors import RunError
from server_app.admission import Client, Standard, admitted
from server_app.app import run
from server_app.registry import VARIABLE, Registered, Registry, registry_of_server
from tests.unit.server.fakes import Clock, Fakes, identity, small_config

pytestmark = pytest.mark.unit

CONFIG = small_config()
OWN = identity(0, CONFIG)
NODES = {1000 + number: Registered(f"client-{number}", number) for number in range(3)}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry.json")
    made.write(NODES)
    return made


def standard(registry: Registry | None) -> Standard:
    own = OWN.digests
    return Standard("r", own["code"], own["config"], "{}", OWN.n_ctx, False, registry)


def refused(registry: Registry | None, *clients: Client) -> tuple[list[int], dict[str, str]]:
    found: dict[str, str] = {}
    kept = admitted(clients, standard(registry), found)
    return [client.node_id for client in kept], found


def client(node_id: int, number: int) -> Client:
    return Client(node_id, identity(number, CONFIG))


def test_what_is_written_is_read(registry: Registry) -> None:
    assert registry.nodes() == NODES
    assert registry.path.stat().st_mode & 0o777 == 0o600


def test_who_bears_another_name_is_refused_alone(registry: Registry) -> None:
    rightful, impostor = client(1000, 0), client(1001, 0)
    kept, reasons = refused(registry, impostor, rightful, client(1002, 2))
    assert kept == [1000, 1002]
    (label,) = reasons
    assert label == "the node registered for client-1"
    assert "it says it is client-0" in reasons[label]
    # Without a registry nobody can tell which is meant.
    assert refused(None, impostor, rightful, client(1002, 2))[0] == [1002]


def test_an_own_name_with_another_partition_is_refused(registry: Registry) -> None:
    moved = Client(1001, replace(identity(1, CONFIG), partition_id=2))
    kept, reasons = refused(registry, moved, client(1002, 2))
    assert kept == [1002]
    assert "partition-id 2, its own is 1" in reasons["the node registered for client-1"]
    registry.write(NODES | {1001: Registered("client-1", None)})
    moved = Client(1001, replace(identity(1, CONFIG), partition_id=7))
    assert refused(registry, moved, client(1002, 2))[0] == [1002, 1001]


def test_an_unregistered_node_is_refused_until_it_is_registered(registry: Registry) -> None:
    registry.write({1000: Registered("client-0", 0)})
    kept, reasons = refused(registry, client(1000, 0), client(1001, 1))
    assert kept == [1000]
    assert "registered for nobody" in reasons["an unregistered node 1001"]
    registry.write(NODES)
    assert refused(registry, client(1000, 0), client(1001, 1))[0] == [1000, 1001]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 1}', '{"format": 1, "nodes": {"x": 3}}', '{"nodes": {"x": {}}}']
)
def test_a_damaged_registry_is_a_sentence(registry: Registry, text: str) -> None:
    registry.path.write_text(text)
    with pytest.raises(RunError, match=r"registry\.json .*register\.sh at the server writes it"):
        registry.nodes()
    registry.path.unlink()
    with pytest.raises(RunError, match="there is no"):
        registry.nodes()


@pytest.mark.parametrize("registered", [True, False])
def test_a_run_goes_on_without_the_impostor(
    registry: Registry, registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry_of_server() is None
    if registered:
        monkeypatch.setenv(VARIABLE, str(registry.path))
    config = small_config(min_clients=2)
    fakes = Fakes(config, identities={1: {"client_name": "client-0", "partition_id": 0}})
    said: list[str] = []
    exchange = Clock().exchange(fakes.grid(deployed=True))
    if not registered:
        with pytest.raises(RunError, match="2 clients have this name"):
            run(exchange, config, run_id=7, echo=said.append)
        return
    results = run(exchange, config, run_id=7, echo=said.append).results
    assert results["status"] == "completed"
    assert [client["name"] for client in results["clients"]] == ["client-0", "client-2"]
    assert list(results["refused"]) == ["the node registered for client-1"]
    assert any("the node registered for client-1 is refused" in line for line in said)
