"""Flower's SuperExec for a site, with a process for each message that starts warm.

Flower starts a new ``flwr-clientapp`` for each message, and importing torch and Flower takes longer
than a round of prompts. Here the site's fork server (:mod:`multiprocessing`) imports the libraries
once and is forked for each message: that still has a process of its own, of which nothing remains,
but starts in milliseconds. The fork server never touches a GPU, an image or the run's code.

A process that dies is reported to the SuperNode, which otherwise would miss it after a minute.

``fedrsclip-superexec`` takes the options of ``flower-superexec``.
"""

import sys
from collections.abc import MutableMapping
from contextlib import suppress
from multiprocessing import active_children, forkserver, get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from fedrsclip.site.flower_internals import (
    MODULES,
    ExecutionSpec,
    LaunchResult,
    SubprocessExecutor,
    TaskType,
    become_client_app,
    become_superexec,
    report_end,
)

LIBRARIES = (
    *MODULES,
    "h11",
    "httpcore",
    "numpy.ma",
    "numpy.random",
    "safetensors",
    "sqlite3",
    "tokenizers",
    "torch",
)
"""What a message needs when its features are cached; nothing of this project."""

_PROJECT = ("client_app", "fedrsclip_core", "server_app")


class WarmExecutor(SubprocessExecutor):
    """Starts ClientApps by forking a process that has the libraries in memory.

    Parameters
    ----------
    context : ForkServerContext, optional
        Starts processes.
    """

    def __init__(self, context: ForkServerContext | None = None) -> None:
        self._context = context or get_context("forkserver")
        self._running: dict[BaseProcess, ExecutionSpec] = {}
        self._context.set_forkserver_preload(list(LIBRARIES))
        forkserver.ensure_running()

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start a ClientApp warm; anything else, or if there is no fork server, as Flower does."""
        if spec.task_type != TaskType.CLIENT_APP:
            return super().launch(spec)
        try:
            process = self._context.Process(target=run_client_app, args=(spec,))
            process.start()
        except (OSError, EOFError):
            # It was killed in this instant; the next message finds a new one.
            return super().launch(spec)
        self._running[process] = spec
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Forget the processes that have ended, and report those that died."""
        for process in [one for one in self._running if one.exitcode is not None]:
            spec = self._running.pop(process)
            if process.exitcode:
                details = f"its process ended with exit code {process.exitcode}"
                print(f"task {spec.task_id}: {details}", file=sys.stderr, flush=True)
                report_end(spec, details)

    def close(self) -> None:
        """Ask the ClientApps to stop, as Flower's do when SuperExec is gone."""
        for process in active_children():
            process.terminate()


def run_client_app(spec: ExecutionSpec) -> None:
    """Be Flower's ``flwr-clientapp``, in a process that was forked for it."""
    with suppress(OSError):  # for ps and top; there is no such file outside Linux
        Path("/proc/self/comm").write_text(str(TaskType.CLIENT_APP))
    forget_project(sys.modules)
    become_client_app(spec)


def forget_project(modules: MutableMapping[str, ModuleType]) -> None:
    """Drop this project's modules, so that the run's own code is imported, not what is installed.

    Flower puts the submitted code first on ``sys.path``, where a loaded package is not looked for.
    """
    for name in [name for name in modules if name.partition(".")[0] in _PROJECT]:
        del modules[name]


def main() -> None:
    """Run ``flower-superexec`` with a :class:`WarmExecutor`."""
    become_superexec(WarmExecutor)
