"""What Flower's command knows of SuperNodes and does not say, so that another is this file's work.

Each thing assumed here has a test in ``tests/unit/cli/test_flower_internals.py``. It is a program:
``python -m fedrsclip.run.flower_internals CONNECTION`` prints the nodes as JSON, as Flower's own
command does, whose connections are those of ``FLWR_HOME``.
"""

import json
import sys

import click
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from flwr.cli.flower_config import read_superlink_connection
from flwr.cli.utils import flwr_cli_exc_handler, init_http_client_from_connection
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.proto.node_pb2 import NodeInfo

from fedrsclip.run.connection import Node


def list_nodes(connection: str) -> list[Node]:
    """Return all nodes of a connection of Flower's configuration.

    Raises
    ------
    ClickException
        If the SuperLink does not answer or refuses.
    """
    client = init_http_client_from_connection(read_superlink_connection(connection))
    try:
        with flwr_cli_exc_handler():
            return [node_of(info) for info in client.ListNodes(ListNodesRequest()).nodes_info]
    finally:
        client.close()


def node_of(info: NodeInfo) -> Node:
    """Return what Flower's message says of a node."""
    return {
        "node_id": info.node_id,
        "name": info.name,
        "key": openssh(info.public_key) if info.public_key else "",
        "status": info.status,
        "online_at": info.last_activated_at,
        "offline_at": info.last_deactivated_at,
    }


def openssh(pem: bytes) -> str:
    """Return a public key that Flower keeps as PEM in OpenSSH's format; empty if it is none."""
    try:
        return (
            load_pem_public_key(pem).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        )
    except ValueError:
        return ""


def main() -> None:
    """Print the nodes of the connection that the command line names, or why there are none."""
    try:
        print(json.dumps({"success": True, "nodes": list_nodes(sys.argv[1])}))
    except click.ClickException as error:
        print(json.dumps({"success": False, "error-message": error.message}))


if __name__ == "__main__":
    main()
