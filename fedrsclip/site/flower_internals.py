"""What a site takes from inside Flower, so that another Flower is this file's work.

Flower keeps ``flwr.app`` and ``flwr.clientapp`` stable, and nothing else. Each thing assumed here
has a test in ``tests/unit/site/test_flower_internals.py``. What is worked around, and why, is told
in ``docs/upstream.md``.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import httpx
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, Status, SubStatus
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
)
from flwr.proto.runtime_pb2 import PushTaskOutputRequest
from flwr.supercore.cli import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.exit import ExitCode, flwr_exit
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import (
    ExecutionSpec,
    Executor,
    LaunchResult,
    SubprocessExecutor,
)
from flwr.supercore.tls import validate_and_resolve_root_certificates
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from flwr.supernode.nodestate.in_memory_nodestate import (
    CLIENT_APP_CRASHED_ERROR,
    InMemoryNodeState,
)

from fedrsclip.site.submitted import project_is_small
from server_app.flower_internals import sent_objects

__all__ = [
    "CLIENT_APP_CRASHED_ERROR",
    "MODULES",
    "Connection",
    "ErrorCode",
    "ExecutionSpec",
    "Executor",
    "InMemoryNodeState",
    "LaunchResult",
    "ObjectStore",
    "Status",
    "SubStatus",
    "SubprocessExecutor",
    "Task",
    "TaskType",
    "become_client_app",
    "become_superexec",
    "become_supernode",
    "error_reply",
    "iterate_object_tree",
    "report_end",
    "sent_objects",
]

MODULES = (
    "flwr.supercore.cli",  # what this module imports
    "flwr.supernode.cli",
    "flwr.supernode.runtime.run_clientapp",
)
"""What of Flower a ClientApp's process needs."""

_HEARTBEAT = "/flwr.proto.Fleet/SendNodeHeartbeat"
_REST_OF_A_MESSAGE, _LAST_PULL_PAUSE = 60.0, 5.0
"""Seconds: Flower waits for two hours, and at the end ten seconds between two looks."""

_STEPS = {"pull_task_input", "install_from_fab", "get_load_client_app_fn", "push_message"}
"""What Flower's function for a ClientApp's process calls by name."""


@dataclass(frozen=True)
class Task:
    """What a ClientApp's process is given.

    Attributes
    ----------
    message : Message
        What is to be answered.
    context : Context
        Of this node and run.
    archive : bytes
        The app that was submitted.
    install_submitted : Callable[[], ClientApp]
        Does what Flower does with that archive: writes its files to the disk, puts them first on
        ``sys.path`` and imports the ClientApp that its ``pyproject.toml`` names.
    """

    message: Message
    context: Context
    archive: bytes
    install_submitted: Callable[[], ClientApp]


class Handler(Protocol):
    """What answers a task in the place of Flower's own way."""

    def answer(self, task: Task) -> Message:
        """Return the reply; what is raised becomes an error reply."""

    def outgoing(self, task: Task, reply: Message) -> Message:
        """Return what is sent of a reply, an error reply or not."""


def become_superexec(new_executor: Callable[[], Executor]) -> None:
    """Run ``flower-superexec``, by the options on the command line, with an executor of one's own.

    Flower has executors, but no option for another one.
    """
    run_superexec.get_executor = lambda *_, **__: new_executor()  # type: ignore[attr-defined]
    flower_superexec()


def become_client_app(spec: ExecutionSpec, handler: Handler) -> None:
    """Do in this process what ``flwr-clientapp`` does, but let ``handler`` answer.

    Flower's function installs what was submitted, loads the app in it, calls that and sends the
    reply. It finds these four steps among its module's names, where others are put here: nothing
    is installed but by :attr:`Task.install_submitted`, and each reply, also that of an exception,
    goes through ``handler``. Dependencies that the app names are never installed.
    """
    from flwr.supernode.runtime import run_clientapp

    flower: Any = run_clientapp
    if not set(flower.run_clientapp.__code__.co_names) >= _STEPS:
        raise RuntimeError("this Flower takes other steps than those that are replaced here")
    pull, push = flower.pull_task_input, flower.push_message
    install, loader = flower.install_from_fab, flower.get_load_client_app_fn
    tasks: list[Task] = []

    def pulled(client: Any) -> Any:
        message, context, run, fab = given = pull(client)

        def install_submitted() -> ClientApp:
            install(fab.content, skip_prompt=True)
            load = loader(default_app_ref="", app_path=None, multi_app=True)
            client_app: ClientApp = load(run.fab_id, run.fab_version, fab.hash_str)
            return client_app

        tasks.append(Task(message, context, fab.content, install_submitted))
        return given

    def answer(message: Message, context: Context) -> Message:
        return handler.answer(tasks[-1])

    def pushed(client: Any, message: Message, context: Context) -> None:
        push(client, handler.outgoing(tasks[-1], message), context)

    _without_empty_lines()
    flower.pull_task_input = pulled
    flower.install_from_fab = lambda *_, **__: None
    flower.get_load_client_app_fn = lambda *_, **__: lambda *_: answer
    flower.push_message = pushed
    flower.run_clientapp(
        runtime_api_address=spec.runtime_api_address,
        token=spec.token,
        insecure=spec.insecure,
        certificates=_certificates(spec),
        parent_pid=spec.parent_pid,
        runtime_dependency_install=False,
    )


def error_reply(task: Task, reason: str) -> Message:
    """Return what Flower sends if a ClientApp raises an exception, with a text of one's own."""
    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
    return Message(error, reply_to=task.message)


def report_end(spec: ExecutionSpec, details: str) -> None:
    """Tell the SuperNode that the process of a task has ended; it may know already, or be gone."""
    with (
        suppress(httpx.HTTPError),
        RuntimeHttpClient.from_server_address(
            server_address=spec.runtime_api_address,
            insecure=spec.insecure,
            root_certificates=_certificates(spec),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
                RuntimeTokenHttpInterceptor(spec.token),
            ],
        ) as client,
    ):
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=details))


def _certificates(spec: ExecutionSpec) -> bytes | None:
    return validate_and_resolve_root_certificates(spec.root_certificates_path, spec.insecure)


class Connection:
    """A SuperNode's way to the SuperLink before it is connected: its address and keys."""

    def __init__(self, address: str, insecure: bool, certificates: Any, keys: Any) -> None:
        self._address, self._insecure = address, insecure
        self._certificates, self._keys = certificates, keys

    def deactivate(self, node_id: int) -> bool:
        """Let the SuperLink hold a node of this key to be offline; return whether it did."""
        if self._keys is None:
            return False
        client = FleetHttpClient.from_server_address(
            self._address,
            self._insecure,
            self._certificates,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(*self._keys),
            ],
        )
        try:
            with client:
                client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))
        except httpx.HTTPError:
            return False
        return True


def become_supernode(
    new_state: Callable[[ObjectStore], InMemoryNodeState],
    before: Callable[[Connection], None],
    refused: Callable[[], None],
    connected: Callable[[int], None],
    moved: Callable[[], None],
    beat: Callable[[], None],
) -> None:
    """Run ``flower-supernode``, by the options on the command line, with a few things of one's own.

    Parameters
    ----------
    new_state : Callable[[ObjectStore], InMemoryNodeState]
        Makes what the SuperNode remembers of messages and tasks.
    before : Callable[[Connection], None]
        Called before it connects.
    refused : Callable[[], None]
        Called when the SuperLink does not take its key; then it is tried again.
    connected : Callable[[int], None]
        Called with its node id once it is connected.
    moved : Callable[[], None]
        Called before and after each attempt to ask the SuperLink for anything.
    beat : Callable[[], None]
        Called instead before and after each heartbeat.

    Raises
    ------
    SystemExit
        Always.
    """

    class Client(FleetHttpClient):
        def ActivateNode(self, request: ActivateNodeRequest) -> ActivateNodeResponse:  # noqa: N802
            while True:
                try:
                    return super().ActivateNode(request)
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
                        raise
                refused()

        def _unary_unary(self, **request: Any) -> Any:
            call = beat if request["rpc_method"] == _HEARTBEAT else moved
            call()
            try:
                return super()._unary_unary(**request)
            finally:
                call()

    # The package has a function of the same name as this module.
    program: Any = import_module("flwr.supernode.cli.flower_supernode")
    loop: Any = import_module("flwr.supernode.start_client_internal")
    transport: Any = import_module("flwr.supernode.fleet_http_connection")
    connect, factory = loop.http_request_response, program.NodeStateFactory

    @contextmanager
    def own_connection(
        address: str, insecure: bool, certificates: Any, keys: Any, *more: Any
    ) -> Iterator[Any]:
        before(Connection(address, insecure, certificates, keys))
        with connect(address, insecure, certificates, keys, *more) as connection:
            connected(connection[0])
            yield connection

    def own_factory(objectstore_factory: Any) -> Any:
        made = factory(objectstore_factory=objectstore_factory)
        made.state_instance = new_state(objectstore_factory.store())
        return made

    program.NodeStateFactory = own_factory
    loop.get_fused_config_from_fab = bounded_config(loop.get_fused_config_from_fab)
    loop.http_request_response = own_connection
    transport.FleetHttpClient = Client
    bounds = pull_objects.__kwdefaults__ or {}
    bounds |= {"max_time": _REST_OF_A_MESSAGE, "backoff_cap": _LAST_PULL_PAUSE}
    _without_empty_lines()
    flower_supernode()
    # Its loop has ended, but the server of its Runtime API would keep the process alive for ever.
    flwr_exit(ExitCode.SUPERNODE_CONNECTION_ERROR, "The connection to the SuperLink has ended.")


def bounded_config(fused: Callable[[bytes, Any], Any]) -> Callable[[bytes, Any], Any]:
    """Return Flower's function for a run's settings, but one that no archive can do harm to.

    It unpacks the submitted ``pyproject.toml`` whatever its size, and an archive or a text that it
    cannot read would end the SuperNode. What the run itself sets is then all that there is.
    """

    def config(archive: bytes, run: Any) -> Any:
        try:
            if project_is_small(archive):
                return fused(archive, run)
        except Exception as error:  # whatever the bytes provoke
            print(f"the submitted app cannot be read ({type(error).__name__})", file=sys.stderr)
        return dict(run.override_config)

    return config


def _without_empty_lines() -> None:
    """Keep Flower from logging nothing, as at the end of each process."""
    logging.getLogger("flwr").addFilter(lambda record: bool(record.getMessage().strip()))
