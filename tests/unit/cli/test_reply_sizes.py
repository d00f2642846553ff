"""What an honest site sends passes the proxy with room to spare, whatever the method shares."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.retry import make_simple_http_retry_invoker

import fedrsclip.deploy.templates as templates
from fedrsclip.deploy.proxy import largest_object
from fedrsclip.flower_internals import become_server, give_id
from fedrsclip_core.config.shared_tensors import (
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
    SharedTensors,
)
from fedrsclip_core.wire.messages import (
    DIGEST_PARTS,
    EVAL_MODES,
    EVAL_PARTS,
    LOSS_TERMS,
    Identity,
    RoundReply,
)
from fedrsclip_core.wire.records import pack_identity, pack_round_reply

pytestmark = [pytest.mark.unit, pytest.mark.flower]

CLASSES, WIDEST = 1000, 1280
TEMPLATE = (Path(templates.__file__).parent / "nginx.conf").read_text()
NODE = 2**63 + 12345
"""Node ids take 10 bytes, as most of Flower's do."""


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def sizes(content: RecordDict) -> tuple[int, int, int]:
    """Return the bytes of the request that announces a reply, its objects and its largest one."""
    become_server(2**63)
    asked = Message(content, NODE, "train")
    give_id(asked)
    reply = Message(content, reply_to=asked)
    reply.metadata.__dict__["_message_id"] = reply.object_id
    announced = PushMessagesRequest(
        node=Node(node_id=NODE),
        messages_list=[message_to_proto(remove_content_from_message(reply))],
        message_object_trees=[get_object_tree(reply)],
        clientapp_runtime_list=[1.0],
    )
    objects = [one.deflate() for one in get_all_nested_objects(reply).values()]
    return announced.ByteSize(), len(objects), max(map(len, objects))


def shared(*names: str) -> SharedTensors:
    every = {
        SHARED_PROMPT: noise(77, WIDEST),
        SHARED_OFFSETS: noise(CLASSES, WIDEST),
        SHARED_OFFSETS_U: noise(CLASSES, 512),
        SHARED_OFFSETS_V: noise(512, WIDEST),
    }
    return {name: every[name] for name in names}


REPLIES = {
    "prompt": (SHARED_PROMPT,),
    "prompt and offsets": (SHARED_PROMPT, SHARED_OFFSETS),
    "prompt and factors": (SHARED_PROMPT, SHARED_OFFSETS_U, SHARED_OFFSETS_V),
}


def train_reply(names: tuple[str, ...]) -> RecordDict:
    reply = RoundReply(
        num_examples=10**6,
        seconds=1e4,
        shared=shared(*names),
        num_steps=10**6,
        losses=dict.fromkeys(LOSS_TERMS, 1.0 / 3),
        correct={(part, mode): 10**6 for part in EVAL_PARTS for mode in EVAL_MODES},
        total=dict.fromkeys(EVAL_PARTS, 10**6),
    )
    return pack_round_reply(reply, with_arrays=True, offsets_dtype="float32")


def identity() -> RecordDict:
    counts = tuple(range(10**6, 10**6 + CLASSES))
    digests = dict.fromkeys(DIGEST_PARTS, "a" * 64)
    return pack_identity(
        Identity("n" * 64, 999, 1000, digests, 77, WIDEST, WIDEST, CLASSES, *[10**7] * 3, counts)
    )


@pytest.mark.parametrize("what", [*REPLIES, "identity"])
def test_an_honest_reply_passes(what: str) -> None:
    announced, objects, largest = sizes(
        identity() if what == "identity" else train_reply(REPLIES[what])
    )
    print(f"{what}: {announced} B announce {objects} objects, the largest has {largest} B")
    bound = re.search(r"client_max_body_size (\d+)k;", TEMPLATE)
    assert bound is not None
    assert announced < int(bound[1]) * 1024 * 0.7
    # Around an object there are ids of the run, the node, the session and the object.
    assert largest + 1024 < largest_object(CLASSES)


def test_a_request_announces_few_objects() -> None:
    """Each of a tree's objects is named by 64 digits: 2 kB hold no more than 30."""
    small = sizes(train_reply(REPLIES["prompt"]))
    more = sizes(train_reply(REPLIES["prompt and factors"]))
    each = (more[0] - small[0]) / (more[1] - small[1])
    assert 2048 / each < 31


def test_a_site_is_told_by_the_header_with_its_key() -> None:
    variable = FLEET_HTTP_PUBLIC_KEY_HEADER.replace("-", "_")
    assert f"limit_req_zone $http_{variable} zone=site:" in TEMPLATE


def test_flower_asks_again_when_it_is_told_to_wait() -> None:
    answers = iter([503, 503, 200])

    def ask() -> int:
        status = next(answers)
        request = httpx.Request("POST", "https://proxy/v1/fleet/push-object")
        httpx.Response(status, request=request).raise_for_status()
        return status

    invoker = make_simple_http_retry_invoker()
    invoker.wait_function = lambda seconds: None
    assert invoker.invoke(ask) == 200
