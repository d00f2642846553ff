"""Python imports this at the start of every program whose PYTHONPATH leads here.

It makes an honest site's program send what ``FEDRSCLIP_TEST_HOSTILE`` names: ``replies`` that are
bad in one way per round, or a wrong digest of ``code``, ``config`` or ``classes``. With ``deaths``
its processes are killed at the worst instants. With ``slow-ray`` the first agent of Ray takes its
time, as on a busy machine.
"""

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

LARGE = 100 * 2**20
KINDS = ("nan", "norm", "shape", "extra", "large", "names", "numbers", "far")
"""One per round, and all once more: on a busy machine a reply may be too late to be seen."""
FORGED = "\x1b[2J\nround 99 | test: global 100.0"
DEATHS = {4: "after its reply", 6: "in its reply", 8: "before its message"}
"""By the number of a site's message; the first two are those before the rounds."""


def send_bad_replies(app: ModuleType) -> None:
    """Patch ``client_app.app``."""
    import numpy as np
    from flwr.app import Array, ArrayRecord

    pack, unpack = app.pack_round_reply, app.unpack_round_request
    kinds: list[str] = []

    def received(*arguments: Any) -> Any:
        request = unpack(*arguments)
        number = request.server_round - 1
        kinds.append(KINDS[number % len(KINDS)] if number < 2 * len(KINDS) else "")
        return request

    def packed(reply: Any, *, with_arrays: bool, **options: Any) -> Any:
        kind = kinds[-1] if with_arrays else ""
        change = {
            "nan": lambda value: value * np.float32("nan"),
            "norm": lambda value: value + np.float32(1e6),
            "shape": lambda value: value[:-1],
            "far": lambda value: value + np.float32(10),
        }.get(kind)
        if change is not None:
            reply = replace(reply, shared={k: change(v) for k, v in reply.shared.items()})
        content = pack(reply, with_arrays=with_arrays, **options)
        if kind == "names":
            content["metrics"][FORGED] = 1
        if kind == "numbers":
            content["metrics"]["test-total"] = 10**12
            content["metrics"]["test-global-correct"] = 10**12
        if kind in ("extra", "large"):
            size = LARGE if kind == "large" else 8
            pixels = np.frombuffer(os.urandom(size), np.uint8)  # Flower sends equal parts once
            content["more"] = ArrayRecord({"pixels": Array(pixels)})
        return content

    app.unpack_round_request = received  # type: ignore[attr-defined]
    app.pack_round_reply = packed  # type: ignore[attr-defined]


def lie_about(part: str) -> Callable[[ModuleType], None]:
    """Return a patch of ``client_app.runtime`` after which a digest is wrong."""

    def patch(runtime: ModuleType) -> None:
        setattr(
            runtime, {"classes": "class_digest"}.get(part, f"{part}_digest"), lambda *_: "f" * 64
        )

    return patch


def die_sometimes(clientapp: ModuleType) -> None:
    """Patch Flower's process for a message: in some of a site's messages it kills itself."""
    pull, push = clientapp.pull_task_input, clientapp.push_objects
    finish = clientapp.push_task_output
    instants: list[str] = []

    def die_at(instant: str) -> None:
        if instants == [instant]:
            os.kill(os.getpid(), signal.SIGKILL)

    def pulled(client: Any) -> Any:
        counter = Path(os.environ["FEDRSCLIP_HOME"], "messages")
        number = counter.stat().st_size + 1 if counter.exists() else 1
        if number <= max(DEATHS):  # later the site's disk may be full
            counter.write_text("." * number)
        instants[:] = [DEATHS[number]] if number in DEATHS else []
        if instants == ["before its message"]:
            client.PullTaskInput(clientapp.PullTaskInputRequest())
        die_at("before its message")
        return pull(client)

    def pushed(objects: Any, push_object: Any, *, object_ids_to_push: set[str]) -> None:
        if instants == ["in its reply"]:
            first = next(iter(object_ids_to_push))
            push_object(first, objects[first].deflate())
        die_at("in its reply")
        push(objects, push_object, object_ids_to_push=object_ids_to_push)

    def finished(**options: Any) -> None:
        die_at("after its reply")
        finish(**options)

    clientapp.pull_task_input = pulled  # type: ignore[attr-defined]
    clientapp.push_objects = pushed  # type: ignore[attr-defined]
    clientapp.push_task_output = finished  # type: ignore[attr-defined]


def be_slow_once(seconds: float = 120) -> None:
    """Let Ray wait for the first of its agents, which dies with it; the next ones are quick."""
    if any(word.endswith("ray/dashboard/agent.py") for word in sys.orig_argv):
        before = Path(os.environ["FEDRSCLIP_HOME"], "slow-ray")
        if not before.exists():
            before.touch()
            time.sleep(seconds)


class _Patched(MetaPathFinder):
    """Finds modules as ever, and patches one of them once it is loaded."""

    def __init__(self, name: str, patch: Callable[[ModuleType], None]) -> None:
        self._name, self._patch, self._inside = name, patch, False

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != self._name or self._inside:
            return None
        self._inside = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._inside = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module: ModuleType) -> None:
                execute(module)
                self._patch(module)

            spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


_kind = os.environ.get("FEDRSCLIP_TEST_HOSTILE", "")
if _kind == "replies":
    sys.meta_path.insert(0, _Patched("client_app.app", send_bad_replies))
elif _kind == "deaths":
    sys.meta_path.insert(0, _Patched("flwr.supernode.runtime.run_clientapp", die_sometimes))
elif _kind == "slow-ray":
    be_slow_once()
elif _kind:
    sys.meta_path.insert(0, _Patched("client_app.runtime", lie_about(_kind)))
