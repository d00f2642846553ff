"""What the registration of keys assumes of Flower; a failure here is work for its adapter."""

import inspect

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.flower_config import read_superlink_connection
from flwr.cli.utils import flwr_cli_exc_handler, init_http_client_from_connection
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedrsclip.deploy.keys import public_key, write_node_key
from fedrsclip.run.flower_internals import node_of, openssh

pytestmark = [pytest.mark.unit, pytest.mark.flower]


def test_flowers_message_says_names_and_keys(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "north.pub"
    file.write_bytes(write_node_key(tmp_path / "north"))
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    key = load_ssh_public_key(file.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    info = NodeInfo(
        node_id=2**63 + 5,
        name="north",
        public_key=public_key_to_bytes(key),
        status="online",
        last_activated_at="2026-01-01T10:00:00+00:00",
    )
    assert node_of(info) == {
        "node_id": 2**63 + 5,
        "name": "north",
        "key": public_key(file),
        "status": "online",
        "online_at": "2026-01-01T10:00:00+00:00",
        "offline_at": "",
    }
    assert node_of(NodeInfo(node_id=1))["key"] == openssh(b"nonsense") == ""


def test_flowers_client_is_made_as_its_command_makes_it() -> None:
    assert len(inspect.signature(read_superlink_connection).parameters) == 1
    first = next(iter(inspect.signature(init_http_client_from_connection).parameters.values()))
    assert first.name == "connection"
    assert callable(ControlHttpClient.ListNodes) and callable(ControlHttpClient.close)
    assert inspect.signature(flwr_cli_exc_handler).parameters["custom_handler"].default is None
