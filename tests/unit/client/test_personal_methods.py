"""FedOTP and FedPGP through the real handlers: what is stored, sent, encoded and resumed."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app import runtime
from client_app.private_format import PrivateFormat
from client_app.private_store import open_store, start_from
from client_app.site_log import SiteLog
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.sealed import read_sealed
from fedrsclip_core.wire.messages import ClientFailure, FailureCode, RoundReply
from fedrsclip_core.wire.records import unpack_round_reply
from tests.unit.client.site_folder import (
    N_CTX,
    SHAPE,
    SHAPES,
    WIDTH,
    Client,
    make_images,
    resolved,
    shared_prompt,
)

pytestmark = pytest.mark.unit

METHODS = ("method=fedotp", "method=fedpgp")
MODES = {"zero-shot", "global", "personalized", "personalized-own"}
OFFSET = PrivateFormat("c" * 64, "k" * 64, n_ctx=4, width=8, fusion="fixed", gate_size=0, rank=2)


def trained(client: Client, server_round: int, shared: Any, **options: Any) -> RoundReply:
    return unpack_round_reply(client.train(server_round, shared, **options).content, SHAPES)


def evaluated(client: Client, server_round: int, shared: Any) -> RoundReply:
    return unpack_round_reply(client.evaluate(server_round, shared).content, {})


def arrays(state: ClientState) -> dict[str, np.ndarray]:
    return {name: array for name, array in vars(state).items() if array is not None}


@pytest.mark.parametrize(
    ("method", "stored", "losses"),
    [
        ("fedotp", {"private": SHAPE}, {"loss", "loss-fused"}),
        (
            "fedpgp",
            {"offset_u": (N_CTX, 2), "offset_v": (2, WIDTH)},
            {"loss", "loss-private", "loss-contrast"},
        ),
    ],
)
def test_a_round_moves_and_stores_what_the_method_has(
    client: Client, method: str, stored: dict[str, tuple[int, ...]], losses: set[str]
) -> None:
    client.overrides = (f"method={method}", "optimizer.local_epochs=2")
    received = shared_prompt()
    first = trained(client, 1, received)
    assert not np.array_equal(first.shared[SHARED_PROMPT], received[SHARED_PROMPT])
    assert first.losses.keys() == losses
    assert {mode for _, mode in first.correct} == MODES
    once = arrays(client.stored(1))
    assert {name: array.shape for name, array in once.items()} == stored
    trained(client, 2, first.shared)
    twice = arrays(client.stored(2))
    assert all(not np.array_equal(once[name], twice[name]) for name in stored)


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_uses_the_private_part_of_its_round(client: Client, method: str) -> None:
    client.overrides = (method, "optimizer.local_epochs=10", "optimizer.private_lr=1.0")
    reply = trained(client, 1, shared_prompt())
    assert evaluated(client, 0, shared_prompt()).correct == reply.correct
    after = evaluated(client, 1, reply.shared)
    assert after.correct == trained(client, 2, reply.shared).correct
    assert not client.evaluate(1, reply.shared).content.array_records


def test_fedpgp_starts_as_the_shared_prompt(client: Client) -> None:
    client.overrides = ("method=fedpgp",)
    counts = evaluated(client, 0, shared_prompt()).correct
    for part in ("val", "test"):
        assert counts[part, "personalized"] == counts[part, "global"]
    client.query("prepare")


def test_fedotp_refuses_equal_starts(client: Client) -> None:
    values = json.loads(resolved(("method=fedotp",)))
    values["prompt"]["private_init"] = values["prompt"]["shared_init"] = "a photo of a"
    # No server composes that; a site does not rely on it.
    client.given = json.dumps(values)
    with pytest.raises(ClientFailure) as caught:
        client.train(1, shared_prompt())
    assert caught.value.code == FailureCode.CONFIGURATION


@pytest.mark.parametrize("method", METHODS)
def test_two_runs_are_equal_in_bits(client: Client, method: str) -> None:
    client.overrides = (method,)

    def run(name: str) -> list[bytes]:
        shared = shared_prompt()
        for server_round in (1, 2):
            reply = trained(client, server_round, shared, run=name)
            shared = reply.shared
        kept = arrays(client.stored(2, name))
        return [array.tobytes() for array in (shared[SHARED_PROMPT], *kept.values())]

    # The second reads its features from the disk, the first had them from the image tower.
    first = run("run-1")
    runtime._OPENED.clear()
    assert run("run-2") == first


class Calls:
    """How many images were encoded, each way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pooled = self.patches = 0
        encode, encode_patches = ImageEncoder.encode, ImageEncoder.encode_patches

        def counted(encoder: ImageEncoder, images: Any) -> Any:
            self.pooled += len(images)
            return encode(encoder, images)

        def counted_patches(encoder: ImageEncoder, images: Any) -> Any:
            self.patches += len(images)
            return encode_patches(encoder, images)

        monkeypatch.setattr(ImageEncoder, "encode", counted)
        monkeypatch.setattr(ImageEncoder, "encode_patches", counted_patches)

    def of(self, client: Client, method: str) -> tuple[int, int]:
        """Prepare as a new process would and return what was encoded for it."""
        before = self.pooled, self.patches
        runtime._OPENED.clear()
        replace(client, overrides=(f"method={method}",)).query("prepare")
        return self.pooled - before[0], self.patches - before[1]


def test_patches_are_encoded_once_and_only_when_asked_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    assert calls.of(client, "promptfl") == (15, 0)
    assert calls.of(client, "fedotp") == (0, 15)
    assert calls.of(client, "fedotp") == (0, 0)
    assert calls.of(client, "fedpgp") == (0, 0)


def test_an_interrupted_encoding_goes_on_where_it_stopped(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = replace(client, data=make_images(tmp_path / "images", per_class=24))
    calls = Calls(monkeypatch)
    encode_patches = ImageEncoder.encode_patches

    def out_of_memory(encoder: ImageEncoder, images: Any) -> Any:
        if calls.patches:  # the first batch is in the cache
            raise RuntimeError("out of memory")
        return encode_patches(encoder, images)

    with monkeypatch.context() as patch:
        patch.setattr(ImageEncoder, "encode_patches", out_of_memory)
        with pytest.raises(ClientFailure):
            calls.of(client, "fedotp")
    assert (calls.pooled, calls.patches) == (36, 32)
    assert calls.of(client, "fedotp") == (0, 4)


def test_an_image_that_becomes_unreadable_between_the_caches_is_left_out_of_both(
    client: Client, tmp_path: Path
) -> None:
    here = replace(client, data=make_images(tmp_path / "images"))
    replace(here, overrides=("method=promptfl",)).query("prepare")
    broken = replace(here, overrides=("method=fedotp", "data.max_unreadable=0.3"))
    context = broken.context
    site = runtime.open_runtime(context.node_config, broken.configuration)
    index = int(site.data.split.train[4])
    assert here.data is not None
    file = here.data / site.data.source.describe(index)
    stat = file.stat()
    file.write_bytes(b"x" * stat.st_size)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    train = site.features("train", SiteLog("client-0"))
    assert train.patches is not None
    assert len(train.patches) == len(train.features) == len(train.labels) == 8


def test_patches_belong_to_their_images(client: Client) -> None:
    client.overrides = ("method=fedotp",)
    context = client.context
    site = runtime.open_runtime(context.node_config, client.configuration)
    part = site.features("val", SiteLog("client-0"))
    assert part.patches is not None and part.patches.dtype == np.float16
    encoder = ImageEncoder(site.files, "cpu")
    for row, index in enumerate(sorted(site.data.split.val)):
        pixels = encoder.prepare(site.data.source.image(int(index)))
        assert np.abs(part.features[row] - encoder.encode([pixels])[0]).max() < 1e-5
        assert np.abs(part.patches[row] - encoder.encode_patches([pixels])[0]).max() < 1e-3


def offset_state(value: float) -> ClientState:
    return ClientState(
        None,
        None,
        np.full((4, 2), value, np.float32),
        np.full((2, 8), -value, np.float32),
    )


def opened(expected: PrivateFormat) -> Any:
    return open_store("demo", "run-1", "client-0", expected, lambda _: None)


def test_an_offset_survives_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    u, v = (generator.standard_normal(shape).astype(np.float32) for shape in ((4, 2), (2, 8)))
    with opened(OFFSET) as store:
        store.save(ClientState(None, None, u, v), 1)
        loaded = store.load(1)
    assert arrays(loaded).keys() == {"offset_u", "offset_v"}
    assert loaded.offset_u.tobytes() == u.tobytes()
    assert loaded.offset_v.tobytes() == v.tobytes()


def test_files_of_other_methods_are_what_they_were() -> None:
    own = replace(OFFSET, rank=0)
    with opened(own) as store:
        store.save(ClientState(np.ones((4, 8), np.float32)), 1)
    folder = paths.private_dir("demo", "run-1", "client-0")
    metadata, tensors = read_sealed(folder / "round-000001.safetensors")
    assert "rank" not in metadata and metadata["format"] == "1"
    assert tensors.keys() == {"private_prompt"}
    with opened(OFFSET) as store, pytest.raises(PrivateStoreError, match="its rank is 0, exp"):
        store.load(1)


def test_an_offset_of_another_rank_is_foreign() -> None:
    with opened(OFFSET) as store:
        store.save(offset_state(1), 1)
    for rank in (0, 1):
        refused = pytest.raises(PrivateStoreError, match=f"its rank is 2, expected {rank}")
        with opened(replace(OFFSET, rank=rank)) as store, refused:
            store.load(1)


def test_another_runs_offset_is_the_start_also_under_another_fusion() -> None:
    with opened(OFFSET) as store:
        store.save(offset_state(1), 1)
        store.save(offset_state(2), 2)
    for expected in (OFFSET, replace(OFFSET, fusion="gate", gate_size=1)):
        start = start_from("demo", "run-1", "client-0", expected)
        assert arrays(start).keys() == {"offset_u", "offset_v"}
        assert start.offset_v is not None and (start.offset_v == -2).all()
