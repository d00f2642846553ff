"""Who is connected to a SuperLink, by Flower's own command."""

import json
import subprocess
from typing import Any

from fedrsclip_core import machine
from fedrsclip_core.errors import RunError

_FLOWER_SECONDS = 30


def lines(superlink: str) -> list[str]:
    """Return a line per node of a connection of Flower's configuration.

    Raises
    ------
    RunError
        If Flower does not answer.
    """
    found = _nodes(superlink)
    said = ["", f"superlink {superlink}: {len(found)} nodes"]
    for node in sorted(found, key=lambda node: str(node.get("node-id"))):
        state = str(node.get("status"))
        since = node.get("online-at") if state == "online" else node.get("offline-at")
        said.append(f"  node {node.get('node-id')}: {state} since {since or 'never'}")
    return said


def _nodes(superlink: str) -> list[dict[str, Any]]:
    command = [machine.program("flwr"), "supernode", "list", superlink, "--format", "json"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FLOWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunError(
            f"the superlink {superlink} did not answer in {_FLOWER_SECONDS} s: is it running, and "
            "does its address in Flower's config.toml fit?"
        ) from None
    begin = done.stdout.find("{")
    try:
        answer = dict(json.loads(done.stdout[begin:]))
    except ValueError:
        answer = {"error-message": (done.stdout + done.stderr).strip().splitlines()[-1:]}
    if not answer.get("success"):
        raise RunError(f"flwr supernode list {superlink}: {answer.get('error-message')}")
    return list(answer["nodes"])
