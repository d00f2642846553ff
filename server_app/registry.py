"""Which node may be which client: what was registered with the nodes' keys, as a file.

A node's id is Flower's for its registered key, so no site can answer under another's id. Which
name and partition belong to it, the administrator of the server says by the key's file name and
the federation's description; ``fedrsclip deploy register`` writes it down.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.fileio import write_json
from fedrsclip_core.runs.records import UnreadableError, read_object

VARIABLE = "FEDRSCLIP_REGISTRY"
"""Names the file, at the server; unset: nobody has registered names, and all are believed."""

_FORMAT = 1


@dataclass(frozen=True)
class Registered:
    """Whom a node's key is registered for.

    Attributes
    ----------
    client_name : str
        The client's name.
    partition_id : int or None
        Its partition; ``None``: nobody has said.
    """

    client_name: str
    partition_id: int | None


class _Entry(TypedDict):
    client_name: str
    partition_id: int | None


class _File(TypedDict):
    format: int
    nodes: dict[str, _Entry]


@dataclass(frozen=True)
class Registry:
    """The file, read anew each time: a site may be registered while a run is running."""

    path: Path

    def nodes(self) -> dict[int, Registered]:
        """Return whom each node is registered for.

        Raises
        ------
        RunError
            If the file is missing or damaged.
        """
        advice = f"{VARIABLE} names it; register.sh at the server writes it"
        try:
            found = read_object(self.path, _File)
            if found is None:
                raise RunError(f"there is no {self.path}: {advice}")
            return {int(node): Registered(**entry) for node, entry in found["nodes"].items()}
        except (UnreadableError, ValueError, TypeError) as error:
            raise RunError(f"{self.path} cannot be used ({error}): {advice}") from None

    def write(self, nodes: Mapping[int, Registered]) -> None:
        """Replace the file atomically."""
        entries = {str(node): asdict(registered) for node, registered in nodes.items()}
        write_json(self.path, {"format": _FORMAT, "nodes": entries}, mode=0o600)


def registry_of_server() -> Registry | None:
    """Return the registry that the environment names, if it does."""
    path = os.environ.get(VARIABLE)
    return Registry(paths.place(path, VARIABLE)) if path else None


def objection(
    nodes: Mapping[int, Registered], node_id: int, client_name: str, partition_id: int
) -> tuple[str, str]:
    """Say why a node may not be the client that it says it is, and what to call it then.

    Returns
    -------
    tuple[str, str]
        Both are empty if it may.
    """
    known = nodes.get(node_id)
    if known is None:
        return (
            f"an unregistered node {node_id}",
            f"it says it is {client_name}, but its key is registered for nobody: put the key into "
            "keys/ at the server, and run register.sh",
        )
    label = f"the node registered for {known.client_name}"
    if client_name != known.client_name:
        return label, f"it says it is {client_name}: it may take part under its own name only"
    if known.partition_id not in (None, partition_id):
        return (
            label,
            f"it says it has partition-id {partition_id}, its own is {known.partition_id}",
        )
    return "", ""
