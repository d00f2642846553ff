"""What a site's process does with the one message it is for.

The installed ClientApp answers. What was submitted is only compared with it, and refused if it is
another app; only a site whose policy says ``allow_submitted_code`` runs it. Whatever happens, what
leaves is a reply or a code of the closed list, and before it leaves the journal has a line of it.
"""

import hashlib
import signal
import sys
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from types import ModuleType

from flwr.app import Message, Metadata
from flwr.clientapp import ClientApp

from client_app.app import app as installed_client_app
from client_app.failures import code_of
from client_app.policy import read_policy
from client_app.site import name_for_files
from client_app.site_log import SiteLog
from fedrsclip.site.flower_internals import Task, error_reply, sent_objects
from fedrsclip.site.journal import Journal
from fedrsclip.site.submitted import installed_app, require_installed
from fedrsclip_core.errors import WireError
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.digests import PACKAGES
from fedrsclip_core.wire.messages import QUERY_PREPARE, ClientFailure, FailureCode
from fedrsclip_core.wire.records import unpack_run

DONE = "done"
INSTALLED = "installed"
"""What ran, in the journal; submitted code stands there by its digest."""

_LONGEST_NAME = 100
_PATIENCE, _LONGEST = 120.0, 86_400.0
"""Seconds for which a process may work after its message's deadline, and until that at the most."""
_REASONS = {code: f"{ClientFailure}:<'{code}'>" for code in FailureCode}
"""What Flower makes of a :class:`ClientFailure`, by its code."""


class Site:
    """Answers tasks as a site does; one process has one task."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._ran = ""

    def answer(self, task: Task) -> Message:
        """Return the ClientApp's reply.

        Raises
        ------
        ClientFailure
            If the app that was submitted may not run here, or cannot be loaded.
        """
        failure: FailureCode
        end_if_it_hangs(task.message.metadata)
        try:
            client_app = self._client_app(task)
        except Exception as error:
            failure = code_of(error)
            _log(task).failure(f"to answer {task.message.metadata.message_type}", error)
        else:
            return client_app(message=task.message, context=task.context)
        # Outside the except block, so that the new exception carries no context either.
        raise ClientFailure(failure)

    def outgoing(self, task: Task, reply: Message) -> Message:
        """Return what is sent: the reply, or an error that says a code and nothing else."""
        code = None
        if reply.has_error():
            code = self._code(task, reply.error.reason or "")
            reply = error_reply(task, _REASONS[code])
        journal = Journal(paths.logs_dir(), name_for_files(task.context.node_config))
        try:
            journal.append(self._line(task, reply, code or DONE))
        except OSError as error:
            _log(task).write(f"the journal cannot be written ({error.strerror}): nothing was sent")
            return error_reply(task, _REASONS[FailureCode.DISK])
        return reply

    def _client_app(self, task: Task) -> ClientApp:
        if not read_policy().allow_submitted_code:
            require_installed(task.archive, installed_app())
            self._ran = INSTALLED
            return installed_client_app
        self._ran = hashlib.sha256(task.archive).hexdigest()
        forget_project(sys.modules)
        return task.install_submitted()

    def _code(self, task: Task, reason: str) -> FailureCode:
        """Return what the server may learn of an error reply's text."""
        for code, text in _REASONS.items():
            if text == reason:
                return code
        _log(task).write(f"kept from the server: {reason}")
        return FailureCode.INTERNAL

    def _line(self, task: Task, reply: Message, outcome: str) -> dict[str, object]:
        try:
            run_name, server_round = unpack_run(task.message.content)
        except WireError:
            run_name, server_round = "", 0
        return {
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "flower_run": task.message.metadata.run_id,
            "run": run_name[:_LONGEST_NAME],
            "round": server_round,
            "kind": task.message.metadata.message_type[:_LONGEST_NAME],
            "code": self._ran,
            "bytes_in": _size(task.message),
            "bytes_out": _size(reply),
            "seconds": round(time.monotonic() - self._start, 3),
            "outcome": outcome,
        }


def end_if_it_hangs(metadata: Metadata) -> None:
    """Let the kernel end this process some time after the message's deadline.

    No handler: that would wait for Python, which may be what hangs, as in a GPU's driver. While it
    lives its site takes no other message. Images are encoded to the end, since what has been
    encoded is kept.
    """
    if metadata.message_type == QUERY_PREPARE:
        return
    left = metadata.created_at + metadata.ttl - time.time()
    if not left < _LONGEST:  # what no clock says, too
        left = _LONGEST
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(round(max(0.0, left) + _PATIENCE))


def forget_project(modules: MutableMapping[str, ModuleType]) -> None:
    """Drop this project's modules, so that submitted code is imported, not what is installed.

    Flower puts the submitted code first on ``sys.path``, where a loaded package is not looked for.
    """
    for name in [name for name in modules if name.partition(".")[0] in PACKAGES]:
        del modules[name]


def _size(message: Message) -> int:
    return sum(map(len, sent_objects(message)))


def _log(task: Task) -> SiteLog:
    return SiteLog(name_for_files(task.context.node_config))
