"""Nothing private leaves: real handlers, success and every failure, searched byte by byte.

Marked are the private prompt and fusion weights, the images' pixels and features, and every path
and file name of the site. Searched are the serialized bytes of each reply and its objects, what
Flower and Ray make of an exception, and the process's output.
"""

import os
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from numpy.typing import NDArray

from client_app.personal_classifier import read_personal
from client_app.private_store import CLASSIFIER, open_store
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import ClientFailure, FailureCode
from fedrsclip_core.wire.precision import WIRE_NAMES
from fedrsclip_core.wire.records import ARRAYS
from tests import disks
from tests.tiny_clip import make_tiny_clip
from tests.unit.client.site_folder import RUN, Client, make_images, shared_prompt

pytestmark = pytest.mark.unit

MARK = "ZZsecretZZ"
WINDOW = 16
NEAR = 1e-3


def marked_prompt(rows: int = 4, columns: int = 32) -> NDArray[np.float32]:
    """Return small floats whose low bytes nobody else has."""
    words = np.arange(1, rows * columns + 1, dtype=np.uint32) * np.uint32(2654435761)
    floats = (np.uint32(0x3C000000) | (words & np.uint32(0x00FFFFFF))).view(np.float32)
    return floats.reshape(rows, columns)


def windows(data: bytes, size: int = WINDOW) -> set[bytes]:
    return {data[i : i + size] for i in range(len(data) - size + 1)}


def telling(data: bytes) -> set[bytes]:
    """Return the windows that are not nearly constant, as zeros or a white image would be."""
    return {window for window in windows(data) if len(set(window)) > 6}


@dataclass
class Watch:
    """Collects what leaves the site and compares it with what must not."""

    client: Client
    sent: list[bytes] = field(default_factory=list)
    arrays: list[NDArray[Any]] = field(default_factory=list)
    codes: list[FailureCode] = field(default_factory=list)

    def ask(self, ask: Callable[[], Message]) -> None:
        """Run a handler and keep every byte that Flower would send for it."""
        try:
            reply = ask()
        except ClientFailure as failure:
            self.codes.append(failure.code)
            self._failed(failure)
            return
        self.sent.append(message_to_proto(reply).SerializeToString())
        self.sent += [part.deflate() for part in get_all_nested_objects(reply).values()]
        for record in reply.content.array_records.values():
            assert set(reply.content.array_records) == {ARRAYS}
            assert set(record) <= set(WIRE_NAMES)
            self.arrays += [array.numpy() for array in record.values()]

    def _failed(self, failure: ClientFailure) -> None:
        assert failure.__cause__ is None and failure.__context__ is None
        assert failure.args == (failure.code.value,) and not getattr(failure, "__notes__", None)
        texts = [str(failure), repr(failure), str(type(failure)) + ":<'" + str(failure) + "'>"]
        texts += traceback.format_exception(failure)
        self.sent += [text.encode() for text in texts]

    def check(self, states: list[ClientState], pixels: list[bytes], features: list[bytes]) -> None:
        forbidden: set[bytes] = set()
        numbers: set[bytes] = set()
        for state in states:
            tensors = [tensor for tensor in vars(state).values() if tensor is not None]
            assert tensors
            for tensor in tensors:
                forbidden |= telling(tensor.tobytes())
                numbers |= {np.float64(value).tobytes() for value in tensor.ravel()}
                numbers |= {repr(float(value)).encode() for value in tensor.ravel()}
        for data in (*pixels, *features):
            forbidden |= telling(data)
        assert len(forbidden) > 1000
        for data in self.sent:
            assert not windows(data) & forbidden
            assert not any(number in data for number in numbers)
            assert MARK.encode() not in data
        for array in self.arrays:
            for state in states:
                for tensor in (state.private, state.class_offsets):
                    same = tensor is not None and tensor.shape == array.shape
                    assert not same or np.abs(array - tensor).max() > NEAR


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    root = tmp_path / f"site-{MARK}"
    monkeypatch.setenv("FEDRSCLIP_HOME", str(root / "home"))
    images = make_images(root / "images", prefix=f"scene-{MARK}")
    clip = make_tiny_clip(root / "clip")
    yield Watch(Client(images, clip, overrides=("prompt.fusion=gate",)))


def planted(watch: Watch, server_round: int, run: str = RUN) -> ClientState:
    """Put marked private tensors where round ``server_round`` would have left them."""
    marked, expected = marked_prompt(), watch.client.format
    weight = None
    if expected.gate_size:
        weight = np.float32(0.6180339) + np.arange(expected.gate_size, dtype=np.float32) / 1024
    state = ClientState(marked, weight)
    if expected.rank:
        state = ClientState(None, weight, marked[:, :2].copy(), marked[2:].copy())
    if expected.offset_classes:
        offsets = marked_prompt(expected.offset_classes, expected.dim)
        state = ClientState(None, weight, class_offsets=offsets)
    with open_store("demo", run, "client-0", watch.client.format, lambda _: None) as store:
        store.save(state, server_round)
    return state


def site_bytes(watch: Watch) -> tuple[list[bytes], list[bytes]]:
    """Return the site's pixels and cached features."""
    from PIL import Image

    assert watch.client.data is not None
    files = sorted(watch.client.data.rglob("*.png"))
    pixels = [np.asarray(Image.open(file)).tobytes() for file in files]
    pixels += [file.read_bytes() for file in files]
    context = watch.client.context
    from client_app.features import PARTS
    from client_app.runtime import open_runtime
    from client_app.site_log import SiteLog

    runtime = open_runtime(context.node_config, watch.client.configuration)
    sets = [runtime.features(part, SiteLog("client-0")) for part in PARTS]
    features = [part.features.tobytes() for part in sets]
    features.append(runtime.statistics(SiteLog("client-0")).directions.tobytes())
    return pixels, features + [p.patches.tobytes() for p in sets if p.patches is not None]


def test_the_search_finds_what_it_looks_for(watch: Watch) -> None:
    """A leak of any kind must turn this red."""
    state = ClientState(marked_prompt(), np.array([0.6180339], np.float32))
    assert state.private is not None and state.weight is not None
    row = state.private[2, :8].tobytes()
    for leak in (
        b"\x93NUMPY" + row,
        b"x" + np.float64(state.private[3, 3]).tobytes(),
        b"weight: " + np.float64(state.weight[0]).tobytes(),
        f"no file /a/{MARK}/b".encode(),
    ):
        watch.sent = [leak]
        with pytest.raises(AssertionError):
            watch.check([state], [os.urandom(4096)], [])
    watch.sent, watch.arrays = [], [state.private + np.float32(NEAR / 2)]
    with pytest.raises(AssertionError):
        watch.check([state], [os.urandom(4096)], [])


@pytest.mark.parametrize(
    "overrides",
    [
        ("prompt.fusion=gate",),
        ("method=fedotp",),
        ("method=fedpgp",),
        ("method=fedrsclip_plus",),
        ("method=fedrsclip_plus", "prompt.shared_offsets=full"),
        ("method=fedrsclip", "data.val_fraction=0.7", "data.test_fraction=0.1"),
    ],
    ids=" ".join,
)
def test_a_whole_run_sends_nothing_private(
    watch: Watch, capfd: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    client = watch.client
    client.overrides = overrides
    ((name, shape),) = client.runtime.shared_shapes.items()
    with_prompt = name == SHARED_PROMPT
    for action in ("identity", "prepare", *(["init"] * with_prompt)):
        watch.ask(lambda a=action: client.query(a))  # type: ignore[misc]
    states = [planted(watch, 1)]
    shared = shared_prompt() if with_prompt else {name: np.zeros(shape, np.float32)}
    for server_round in (2, 3, 4):
        watch.arrays.append(shared[name])
        watch.ask(lambda r=server_round, s=shared: client.train(r, s))  # type: ignore[misc]
        shared = {name: watch.arrays[-1]}
        states.append(client.stored(server_round))
    received = shared
    watch.ask(lambda: client.evaluate(4, shared, final=True))
    assert not watch.codes and len(states) == 4
    sums = b"val-global-cross-entropies" in b"".join(watch.sent)
    assert sums == ("data.val_fraction=0.7" in overrides)
    kept = read_personal(client.folder() / CLASSIFIER)
    # Beside what is private lies what was received, and nothing that was made of it here.
    np.testing.assert_equal(kept.prompt.shared, received)
    if kept.log_prior is not None:
        states.append(ClientState(None, kept.log_prior))
    pixels, features = site_bytes(watch)
    watch.check(states, pixels, features)
    printed = capfd.readouterr()
    assert MARK not in printed.out + printed.err


def no_images(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    assert client.data is not None
    return lambda: replace(client, data=client.data / f"{MARK}-missing").query("identity")  # type: ignore[operator]


def unreadable_images(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    assert client.data is not None
    broken = make_images(client.data.parent / "broken", prefix=MARK)
    for file in broken.rglob("*.png"):
        file.write_bytes(f"no picture {MARK} {file}".encode())
    return lambda: replace(client, data=broken).query("prepare")


def other_configuration(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: client.query("identity", configuration=f'{{"{MARK}": 1}}')


def unwanted_run(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Message]:
    policy = paths.home() / "site.yaml"
    policy.write_text(f"runs: [{MARK}]\n")
    monkeypatch.setenv("FEDRSCLIP_POLICY", str(policy))
    return lambda: client.query("identity")


def bad_node(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: replace(client, node={"client-name": f"../{MARK}"}).query("identity")


def no_model(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    assert client.clip is not None
    return lambda: replace(client, clip=client.clip / MARK).query("identity")  # type: ignore[operator]


def damaged_model(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    assert client.clip is not None
    damaged = make_tiny_clip(client.clip.parent / f"damaged-{MARK}")
    (damaged / "model.safetensors").write_bytes(b"damaged")
    other = replace(client, clip=damaged)
    return lambda: other.train(2, shared_prompt())


def damaged_private_file(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    newest = max(client.folder().glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-3])
    return lambda: client.train(2, shared_prompt())


def locked_private_folder(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Message]:
    def ask() -> Message:
        with open_store("demo", RUN, "client-0", client.format, lambda _: None):
            return client.train(2, shared_prompt())

    return ask


def wrong_shape(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: client.train(2, {SHARED_PROMPT: np.zeros((5, 32), np.float32)})


def not_finite_request(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: client.train(2, {SHARED_PROMPT: np.full((4, 32), np.nan, np.float32)})


def late(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: client.train(2, shared_prompt(), ttl=1e-9)


def full_disk(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    def ask() -> Message:
        with disks.full_disk():
            return client.train(2, shared_prompt())

    client.query("prepare")
    return ask


def no_device(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: replace(client, node={"device": "cuda:99"}).query("prepare")


def not_finite(client: Client, _: pytest.MonkeyPatch) -> Callable[[], Message]:
    return lambda: replace(client, overrides=(*client.overrides, "optimizer.lr=1e38")).train(
        2, shared_prompt()
    )


def bug(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Message]:
    from fedrsclip_core.learning import training

    def broken(*args: object, **kwargs: object) -> None:
        state = args[2]
        assert isinstance(state, ClientState)
        error = sqlite3.OperationalError(f"{MARK} {state.private!r}")
        error.add_note(f"{MARK} in a note")
        raise KeyError(f"{MARK} {state}") from error

    monkeypatch.setattr(training, "train_round", broken)
    return lambda: client.train(2, shared_prompt())


FAILURES: list[
    tuple[Callable[[Client, pytest.MonkeyPatch], Callable[[], Message]], FailureCode]
] = [
    (other_configuration, FailureCode.CONFIGURATION),
    (bad_node, FailureCode.CONFIGURATION),
    (unwanted_run, FailureCode.POLICY),
    (no_images, FailureCode.DATA),
    (unreadable_images, FailureCode.DATA),
    (no_model, FailureCode.MODEL),
    (damaged_model, FailureCode.MODEL),
    (damaged_private_file, FailureCode.PRIVATE_STORE),
    (locked_private_folder, FailureCode.PRIVATE_STORE),
    (wrong_shape, FailureCode.PROTOCOL),
    (not_finite_request, FailureCode.PROTOCOL),
    (late, FailureCode.LATE),
    (full_disk, FailureCode.DISK),
    (no_device, FailureCode.DEVICE),
    (not_finite, FailureCode.NON_FINITE),
    (bug, FailureCode.INTERNAL),
]


def test_every_code_is_reached() -> None:
    assert {code for _, code in FAILURES} == set(FailureCode)


@pytest.mark.parametrize(
    ("arrange", "code"), FAILURES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_failure_tells_its_code_and_nothing_else(
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arrange: Callable[[Client, pytest.MonkeyPatch], Callable[[], Message]],
    code: FailureCode,
) -> None:
    state = planted(watch, 1)
    with monkeypatch.context() as patch:
        watch.ask(arrange(watch.client, patch))
    assert watch.codes == [code], _log()
    pixels, features = site_bytes(watch)
    watch.check([state], pixels, features)
    printed = capfd.readouterr()
    assert MARK not in printed.out + printed.err


def test_the_site_log_has_the_whole_story(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(watch, 1)
    watch.ask(bug(watch.client, monkeypatch))
    assert MARK in _log() and "KeyError" in _log() and "OperationalError" in _log()


def _log() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in paths.logs_dir().glob("*.log"))
