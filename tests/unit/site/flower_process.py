"""Flower's own function for a ClientApp's process, given a task and relieved of its node."""

import hashlib
import json
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, Metadata, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supernode.runtime import run_clientapp as flower

from fedrsclip.site.answer import Site
from fedrsclip.site.flower_internals import (
    ExecutionSpec,
    TaskType,
    become_client_app,
    sent_objects,
)
from fedrsclip_core.wire.records import pack_query

RUN = "run-7"
NAME = "north"


def answered(asked: dict[str, Any], sent: Path) -> None:
    """Give a process of its own a task; write down what it would have sent.

    Parameters
    ----------
    asked : dict[str, Any]
        ``archive`` (the submitted app's bytes), ``code``, ``configuration`` and ``kind``.
    sent : Path
        Where to write it.
    """
    process = get_context("fork").Process(target=_answer, args=(asked, sent))
    process.start()
    process.join(timeout=120)
    assert process.exitcode in (0, 1), process.exitcode


def _answer(asked: dict[str, Any], sent: Path) -> None:
    content = pack_query(RUN, asked["code"], asked["configuration"])
    metadata = Metadata(7, "", 1, 2, "", "", 0.0, 600.0, asked["kind"])
    message = Message(content=content, metadata=metadata)
    node: dict[str, Any] = {"partition-id": 0, "num-partitions": 1, "client-name": NAME}
    context = Context(7, 2, node, RecordDict(), asked.get("run_config", {}))
    run = Run.create_empty(7)
    run.fab_id, run.fab_version = asked.get("fab_id", "fedrsclip/fedrsclip"), "0.1.0"

    def push(client: object, reply: Message, context: object) -> None:
        found: dict[str, Any] = {"text": None}
        if reply.has_error():
            found["text"] = reply.error.reason
        found["objects"] = "".join(part.decode("latin-1") for part in sent_objects(reply))
        sent.write_text(json.dumps(found))

    class Silent:
        is_running = False

        def __init__(self, *_: object) -> None:
            pass

        def start(self) -> None:
            pass

    fab = Fab(hashlib.sha256(asked["archive"]).hexdigest(), asked["archive"], {})
    # In this process only.
    of_flower: Any = flower
    of_flower.pull_task_input = lambda _: (message, context, run, fab)
    of_flower.push_message = push
    of_flower.push_task_output = lambda **_: None
    of_flower.HeartbeatSender = Silent
    spec = ExecutionSpec(
        task_type=TaskType.CLIENT_APP,
        runtime_api_address="127.0.0.1:1",
        token="token",
        insecure=True,
        root_certificates_path=None,
        runtime_dependency_install=True,
        parent_pid=None,
        suppress_output=False,
        task_id=1,
    )
    become_client_app(spec, Site())
