"""What a site takes from inside Flower, so that another Flower is this file's work.

Flower keeps ``flwr.app`` and ``flwr.clientapp`` stable, and nothing else. Each thing assumed here
has a test in ``tests/unit/site/test_flower_internals.py``.
"""

from collections.abc import Callable

from flwr.supercore.cli import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import (
    ExecutionSpec,
    Executor,
    LaunchResult,
    SubprocessExecutor,
)
from flwr.supercore.tls import validate_and_resolve_root_certificates

__all__ = [
    "MODULES",
    "ExecutionSpec",
    "LaunchResult",
    "SubprocessExecutor",
    "TaskType",
    "become_client_app",
    "become_superexec",
]

MODULES = (
    "flwr.supercore.cli",  # what this module imports
    "flwr.supernode.runtime.run_clientapp",
)
"""What of Flower a ClientApp's process needs."""


def become_superexec(new_executor: Callable[[], Executor]) -> None:
    """Run ``flower-superexec``, by the options on the command line, with an executor of one's own.

    Flower has executors, but no option for another one.
    """
    run_superexec.get_executor = lambda *_, **__: new_executor()  # type: ignore[attr-defined]
    flower_superexec()


def become_client_app(spec: ExecutionSpec) -> None:
    """Do in this process what ``flwr-clientapp`` does."""
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    run_clientapp(
        runtime_api_address=spec.runtime_api_address,
        token=spec.token,
        insecure=spec.insecure,
        certificates=validate_and_resolve_root_certificates(
            spec.root_certificates_path, spec.insecure
        ),
        parent_pid=spec.parent_pid,
        runtime_dependency_install=spec.runtime_dependency_install,
    )
