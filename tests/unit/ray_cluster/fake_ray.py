"""Stands for Ray and its nodes."""

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import ray.exceptions

ADDRESS = "192.0.2.1:6379"


def node(name: str, **resources: float) -> dict[str, Any]:
    """Return a node as Ray describes it."""
    shown = {"NodeManagerHostname": name, "NodeManagerAddress": "192.0.2.1"}
    return {
        "NodeID": name.encode().hex().ljust(56, "0"),
        "Alive": True,
        "Resources": resources,
        **shown,
    }


class FakeRay:
    """Runs a task when it is asked whether one has ended."""

    exceptions = ray.exceptions

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.nodes = lambda: nodes
        self.get_runtime_context = lambda: types.SimpleNamespace(gcs_address=ADDRESS)
        self.most = 0
        self.options: dict[str, Any] = {}

    def remote(self, **options: Any) -> Callable[..., Any]:
        """Return a decorator of tasks."""
        self.options = options

        def decorate(function: Callable[..., Any]) -> Any:
            return types.SimpleNamespace(remote=lambda *given: partial(function, *given))

        return decorate

    def wait(self, running: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        """Say that the first has ended."""
        self.most = max(self.most, len(running))
        return running[:1], running[1:]

    def get(self, answer: Callable[[], Any]) -> Any:
        """Run a task."""
        return answer()
