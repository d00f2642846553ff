"""`fedrsclip status`: how a run goes, read from its folder at the server, and who is connected."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fedrsclip_core import machine
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs.lines import round_line
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.units import duration

_KEYS = ("run", "superlink")
_FLOWER_SECONDS = 30


def status(arguments: Sequence[str], *, echo: Callable[[str], None] = print) -> int:
    """Print the state of one run (``run=NAME``, by default the newest one) and of its nodes.

    ``superlink=NAME`` names a connection of Flower's configuration whose nodes are listed too.

    Raises
    ------
    ConfigError
        If an argument is unknown or there is no such run.
    RunError
        If Flower does not answer.
    """
    asked = _arguments(arguments)
    folder = RunFolder.named(asked["run"]) if "run" in asked else RunFolder.newest()
    if not folder.has_begun():
        raise ConfigError(f"there is no run {folder.name} in {folder.path.parent}")
    for line in _run_lines(folder):
        echo(line)
    if "superlink" in asked:
        echo("")
        for line in _node_lines(asked["superlink"]):
            echo(line)
    return 0


def _arguments(arguments: Sequence[str]) -> dict[str, str]:
    pairs = [argument.partition("=") for argument in arguments]
    for key, _, value in pairs:
        if key not in _KEYS or not value:
            raise ConfigError("fedrsclip status takes run=NAME and superlink=NAME")
    return {key: value for key, _, value in pairs}


def _run_lines(folder: RunFolder) -> list[str]:
    state, log, about = folder.state(), folder.rounds(), folder.description()
    records, written = log.read(), folder.written()
    why = f": {state.reason}" if state.reason else ""
    lines = [f"run {folder.name}: {state.word}{why}", f"  folder: {folder.path}"]
    if not records or about is None or written is None:
        return [*lines, "  no round is complete yet"]
    lines += [
        f"  round {records[-1]['round']} of {about['config']['federation.num_rounds']}, "
        f"complete {duration(time.time() - written[1])} ago",
        f"  {round_line(records[-1])}",
        *_client_lines(records),
    ]
    failed = [record for record in records if record["failure"]]
    if failed:
        numbers = ", ".join(str(record["round"]) for record in failed)
        lines.append(f"  failed rounds: {numbers}; the last: {failed[-1]['failure']}")
    return lines


def _client_lines(records: Sequence[RoundRecord]) -> list[str]:
    """Say of each client when it last answered, and why its other replies were dropped."""
    answered: dict[str, int] = {}
    reasons: dict[str, Counter[str]] = {}
    for record in records:
        phases = [record["clients"]["dropped"]]
        if record["eval_seconds"] is not None:
            phases.append(record["eval_dropped"])
        for name, sizes in record["bytes"]["clients"].items():
            answered.setdefault(name, -1)
            if sizes["up"] and not all(name in dropped for dropped in phases):
                answered[name] = record["round"]
        for dropped in phases:
            for name, reason in dropped.items():
                reasons.setdefault(name, Counter())[reason.split(":")[0]] += 1
    lines = []
    for name in sorted(answered):
        last = answered[name]
        seen = f"last answer in round {last}" if last >= 0 else "no answer yet"
        counts = reasons.get(name, Counter()).most_common()
        lost = ", ".join(f"{reason} x {number}" for reason, number in counts)
        lines.append(f"  client {name}: {seen}" + (f"; dropped: {lost}" if lost else ""))
    return lines


def _node_lines(superlink: str) -> list[str]:
    nodes = _flower_nodes(superlink)
    lines = [f"superlink {superlink}: {len(nodes)} nodes"]
    for node in sorted(nodes, key=lambda node: str(node.get("node-id"))):
        state = str(node.get("status"))
        since = node.get("online-at") if state == "online" else node.get("offline-at")
        lines.append(f"  node {node.get('node-id')}: {state} since {since or 'never'}")
    return lines


def _flower_nodes(superlink: str) -> list[dict[str, Any]]:
    """Ask Flower's own command who is connected."""
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
