"""A network namespace as another host: one cable, which can be pulled."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Cable:
    """The way from this machine, ``server``, to a namespace.

    Attributes
    ----------
    namespace : str
        The other host's name.
    server : str
        This machine's address at its end of the cable.
    """

    namespace: str
    server: str
    _their_end: str

    @property
    def inside(self) -> tuple[str, ...]:
        """Words before a command that is to run on the other host."""
        return ("ip", "netns", "exec", self.namespace)

    def plug(self, state: str) -> None:
        """Pull the cable (``down``) or plug it in (``up``)."""
        assert _ip(f"-n {self.namespace} link set {self._their_end} {state}") == 0


@contextmanager
def namespace() -> Iterator[Cable]:
    """Make a host at the end of a cable; skip the test where none can be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    number = os.getpid()
    name, ours, theirs = f"fed{number}", f"fd{number}a", f"fd{number}b"
    if _ip(f"netns add {name}") != 0:
        pytest.skip("no network namespace can be made here")
    # Apart from what a killed test has left.
    net = f"10.211.{number % 256}"
    server = f"{net}.1"
    try:
        made = [
            _ip(f"link add {ours} type veth peer name {theirs} netns {name}"),
            _ip(f"addr add {server}/30 dev {ours}"),
            _ip(f"link set {ours} up"),
            _ip(f"-n {name} addr add {net}.2/30 dev {theirs}"),
            _ip(f"-n {name} link set {theirs} up"),
            _ip(f"-n {name} link set lo up"),
        ]
        assert made == [0] * len(made)
        yield Cable(name, server, theirs)
    finally:
        _ip(f"link del {ours}")
        _ip(f"netns del {name}")


def _ip(arguments: str) -> int:
    return subprocess.run(["ip", *arguments.split()], capture_output=True, check=False).returncode
