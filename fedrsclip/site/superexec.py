"""Flower's SuperExec for a site, with a process for each message that starts warm.

Flower starts a new ``flwr-clientapp`` for each message, and importing torch and Flower takes longer
than a round of prompts. Here the site's fork server (:mod:`multiprocessing`) imports the libraries
and the installed ClientApp once and is forked for each message: that still has a process of its
own, of which nothing remains, but starts in milliseconds. The fork server never touches a GPU, an
image or what was submitted.

Nothing else is ever started: ``flwr-clientapp`` would run the submitted code, and a submitter
who calls the run another kind of Flower's would be given another of its programs.

A process that dies is reported to the SuperNode, which otherwise would miss it after a minute.

``fedrsclip-superexec`` takes the options of ``flower-superexec``.
"""

import sys
from contextlib import suppress
from multiprocessing import active_children, forkserver, get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

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
    "yaml",
)
"""What a message needs when its features are cached, beside :mod:`fedrsclip.site.preload`."""

_TRIES = 3
_OTHER = "a site runs nothing but ClientApps, this task is for {kind}"
_NO_FORK = "the fork server was killed again and again"


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
        self._context.set_forkserver_preload([*LIBRARIES, "fedrsclip.site.preload"])
        forkserver.ensure_running()

    def get_eligible_capacity(
        self, supported_task_types: set[TaskType], **_: object
    ) -> tuple[set[TaskType], set[str]]:
        """Ask for ClientApps alone."""
        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Fork a process for a message."""
        if spec.task_type != TaskType.CLIENT_APP:
            return LaunchResult.failed(_OTHER.format(kind=spec.task_type))
        for _ in range(_TRIES):
            # If the fork server was killed in this instant, the next try finds a new one.
            with suppress(OSError, EOFError):
                process = self._context.Process(target=run_client_app, args=(spec,))
                process.start()
                self._running[process] = spec
                return LaunchResult.accepted()
        return LaunchResult.failed(_NO_FORK)

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
    # Not at the top: this module is imported before the fork server has what that needs.
    from fedrsclip.site.answer import Site

    become_client_app(spec, Site())


def main() -> None:
    """Run ``flower-superexec`` with a :class:`WarmExecutor`."""
    become_superexec(WarmExecutor)
