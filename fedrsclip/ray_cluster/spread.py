"""A simulation whose clients are spread over a Ray cluster: what is settled before it starts."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedrsclip import machine
from fedrsclip.ray_cluster.at_node import expected_in
from fedrsclip.ray_cluster.connection import AUTO, connected
from fedrsclip.ray_cluster.nodes import Nodes, Share, cluster_address
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from server_app.app import AT_ONCE_VARIABLE

ADDRESS = "federation.ray_address"
"""The key that names the cluster."""

PROGRAM = "flwr-simulation"
"""What Flower's SuperLink starts for a simulation, by this name."""

_GIVEN, _LINES = "spread.json", "spread.lines"


@dataclass(frozen=True)
class Spread:
    """Where the clients of a simulation compute.

    Attributes
    ----------
    address : str
        ``host:port`` of the cluster.
    nodes : str
        The names of those that have room.
    share : Share
        What each client's process takes of a node.
    at_once : int
        Client processes.
    environment : dict[str, str]
        Added to theirs.
    """

    address: str
    nodes: str
    share: Share
    at_once: int
    environment: dict[str, str]

    def __str__(self) -> str:
        at_once = "1 client computes" if self.at_once == 1 else f"{self.at_once} clients compute"
        return f"Ray at {self.address}: {at_once} at a time ({self.nodes})"

    def write(self, folder: Path) -> dict[str, str]:
        """Have the SuperLink start this package's program in place of Flower's own.

        Parameters
        ----------
        folder : Path
            A folder for what is written.

        Returns
        -------
        dict[str, str]
            Additions to the SuperLink's environment.
        """
        given = folder / _GIVEN
        given.write_text(json.dumps(asdict(self)), encoding="utf-8")
        programs = folder / "programs"
        programs.mkdir()
        start = [sys.executable, "-m", "fedrsclip.ray_cluster", str(given)]
        program = programs / PROGRAM
        program.write_text(f'#!/bin/sh\nexec {shlex.join(start)} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        return {
            "PATH": os.pathsep.join([str(programs), machine.script_folders()]),
            AT_ONCE_VARIABLE: str(self.at_once),
        }


def read_spread(given: Path) -> Spread:
    """Read what :meth:`Spread.write` has written."""
    values: dict[str, Any] = json.loads(given.read_text(encoding="utf-8"))
    return Spread(**{**values, "share": Share(**values["share"])})


def say(given: Path, line: str) -> None:
    """Leave a line for who has written ``given``."""
    print(line, flush=True)
    with given.with_name(_LINES).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


class Said:
    """The lines that were left in a folder, each once."""

    def __init__(self, folder: Path) -> None:
        self._file, self._read = folder / _LINES, 0

    def __iter__(self) -> Iterator[str]:
        """Yield what is new."""
        if not self._file.exists():
            return
        lines = self._file.read_text(encoding="utf-8").splitlines()
        yield from lines[self._read :]
        self._read = len(lines)


def find_spread(
    federation: FederationConfig, configuration: str, environment: Mapping[str, str]
) -> Spread:
    """Look for room for the clients on ``federation.ray_address``, and ask each node.

    Parameters
    ----------
    federation : FederationConfig
        The clients.
    configuration : str
        The run's, resolved.
    environment : Mapping[str, str]
        By which clients learn this machine's site keys.

    Raises
    ------
    ConfigError, RunError
        If there is no cluster or no room, or a node lacks something.
    """
    share = Share(federation.client_cpus, federation.client_gpus)
    with connected(federation.ray_address or AUTO, ADDRESS):
        address, nodes = cluster_address(), Nodes(share)
        if not nodes.room:
            raise ConfigError(
                f"no node of the Ray cluster at {address} has {share} for a client: set "
                "federation.client_cpus and federation.client_gpus to what its nodes have"
            )
        with expected_in(paths.home()) as expected:
            nodes.check("simulate clients", expected, [configuration], environment)
        at_once = min(nodes.room, federation.num_clients)
        return Spread(address, nodes.names, share, at_once, dict(environment))
