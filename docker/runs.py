"""Speak to the SuperLink: ``runs.py register``, or ``runs.py submit [overrides]``.

``submit`` follows the run, prints its table and exits with its true status: `flwr run` itself exits
with 0 also when a run fails.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from fedrsclip.deploy.description import describe, travelling
from fedrsclip.run.staging import stage_app
from fedrsclip_core.config.compose import OVERRIDES_KEY, join_overrides
from fedrsclip_core.errors import FedRSCLIPError, RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.lines import final_table, round_line
from fedrsclip_core.runs.run_folder import Follower, RunFolder

KEYS = Path("/keys")
_ADDRESS = "superlink:8000"
_CONNECTION = "compose"
_BASE = ("federation=compose", "privacy=deployment")
_INTERRUPTED = 130
_LOOK_SECONDS = 0.5
# A question costs a second of CPU.
_ASK_SECONDS = 15.0
# A SuperLink that is being restarted is back by then.
_PATIENCE = 600.0


def register() -> int:
    """Register the clients' public keys; one that is known already is left as it is."""
    for key in sorted((KEYS / "nodes").glob("*.pub")):
        done = _flwr("supernode", "register", str(key), _CONNECTION, "--name", key.stem)
        if done.returncode == 0:
            print(f"{key.stem}: registered")
        elif "already" in " ".join(done.stdout.split()).lower():
            print(f"{key.stem}: is registered already")
        else:
            raise RunError(f"Flower does not register {key.stem}: {done.stdout.strip()}")
    return 0


def submit(overrides: Sequence[str]) -> int:
    """Submit a run, follow it to its end and return its exit status."""
    description = describe([*_BASE, *overrides])
    name = description.config.run.name
    if name is None:
        name = f"compose-{time.strftime('%Y%m%d-%H%M%S')}"
        description = describe([*_BASE, *overrides, f"run.name={name}"])
    home = Path(os.environ["FLWR_HOME"])
    app = stage_app(home / "app")
    settings = home / "run.toml"
    given = {OVERRIDES_KEY: join_overrides(travelling(description))}
    settings.write_text(tomli_w.dumps(given), encoding="utf-8")
    # Looked at first: what a run of this name left earlier is not reported as new.
    follower = Follower(RunFolder(paths.runs_dir() / name))
    done = _flwr("run", str(app), _CONNECTION, "-c", str(settings), "--format", "json")
    run_id = str(_json(done.stdout).get("run-id") or "")
    if not run_id:
        raise RunError(f"Flower took no run: {done.stdout.strip()}")
    print(f"run {name} is submitted (Flower's id: {run_id})")
    return follow(run_id, follower)


def follow(
    run_id: str, follower: Follower, *, ask_every: float = _ASK_SECONDS, patience: float = _PATIENCE
) -> int:
    """Print a run's rounds until it is over and return its exit status.

    Raises
    ------
    RunError
        If the SuperLink does not answer for longer than ``patience``, in seconds.
    """
    asked = heard = time.monotonic()
    while True:
        for record in follower.new_rounds():
            print(round_line(record), flush=True)
        if follower.has_results() or time.monotonic() - asked > ask_every:
            status = _status(run_id)
            if status.startswith("finished:"):
                return _end(run_id, status, follower)
            asked = time.monotonic()
            heard = asked if status else heard
            if asked - heard >= patience:
                raise RunError(
                    f"the SuperLink has not answered for {asked - heard:.0f} s, and the run "
                    f"{run_id} may still be running: see `docker compose logs superlink`"
                )
        time.sleep(_LOOK_SECONDS)


def _end(run_id: str, status: str, follower: Follower) -> int:
    for record in follower.new_rounds():
        print(round_line(record))
    results = follower.results()
    if results is not None:
        print(f"\n{final_table(results)}\n")
    else:
        # It ended before it had a folder: what it said is all there is.
        print(_flwr("log", run_id, _CONNECTION, "--show").stdout)
    print(f"run {run_id}: {status}")
    return 0 if status == "finished:completed" else 1


def _status(run_id: str) -> str:
    """Return what Flower says of a run; nothing while the SuperLink is being restarted."""
    done = _flwr("ls", _CONNECTION, "--run-id", run_id, "--format", "json")
    runs = _json(done.stdout).get("runs") or [{}]
    return str(runs[0].get("status", ""))


def _flwr(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["flwr", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _json(text: str) -> dict[str, Any]:
    """Return the JSON object in a command's output, which may have warnings around it."""
    try:
        return dict(json.loads(text[text.find("{") : text.rfind("}") + 1]))
    except ValueError:
        return {}


def _connect() -> None:
    """Tell Flower's command where the SuperLink is."""
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    connection = {"address": _ADDRESS, "root-certificates": f"{KEYS}/tls/ca.crt"}
    known = {"superlink": {"default": _CONNECTION, _CONNECTION: connection}}
    (home / "config.toml").write_text(tomli_w.dumps(known), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Do what is asked and return the exit status."""
    command, *overrides = arguments
    try:
        _connect()
        return register() if command == "register" else submit(overrides)
    except FedRSCLIPError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted; a run that was submitted goes on", file=sys.stderr)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
