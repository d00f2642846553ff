import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client_app.private_format import PrivateFormat
from client_app.private_store import PrivateStore, open_store, start_from
from fedrsclip_core.errors import PrivateStoreError
from fedrsclip_core.learning.prompts import ClientState
from fedrsclip_core.runs import fileio, paths
from tests.disks import full_disk

pytestmark = pytest.mark.unit

FORMAT = PrivateFormat(
    clip="c" * 64, classes="k" * 64, n_ctx=4, width=8, fusion="gate", gate_size=1
)
KILLS = int(os.environ.get("FEDRSCLIP_TEST_KILLS", "20"))


def state(value: float) -> ClientState:
    return ClientState(np.full((4, 8), value, np.float32), np.full(1, value, np.float32))


def folder() -> Path:
    return paths.private_dir("demo", "run-1", "client-0")


def opened(expected: PrivateFormat = FORMAT, log=None, client: str = "client-0"):  # type: ignore[no-untyped-def]
    return open_store("demo", "run-1", client, expected, log or (lambda _: None))


def saved(*rounds: int) -> None:
    with opened() as store:
        for number in rounds:
            store.save(state(number), number)


def kept() -> list[str]:
    return sorted(path.name for path in folder().iterdir() if path.name != ".lock")


def name(number: int) -> str:
    return f"round-{number:06d}.safetensors"


def test_load_returns_the_newest_round_that_is_not_too_new() -> None:
    saved(3, 5, 7)
    with opened() as store:
        for before, expected in ((9, 7), (7, 7), (6, 5), (4, 3)):
            loaded = store.load(before)
            assert loaded is not None and loaded.private is not None and loaded.weight is not None
            assert (loaded.private == expected).all() and (loaded.weight == expected).all()
        assert store.load(2) is None


def test_a_prompt_survives_to_the_bit() -> None:
    exact = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    exact[0, 0] = np.float32(1e-42)  # a denormal
    with opened() as store:
        store.save(ClientState(exact, np.zeros(1, np.float32)), 1)
        loaded = store.load(1)
    assert loaded is not None and loaded.private is not None
    assert loaded.private.tobytes() == exact.tobytes()


def test_three_rounds_are_kept() -> None:
    saved(1, 2, 3, 4, 5)
    assert kept() == [name(3), name(4), name(5)]


def test_going_back_to_a_checkpoint_drops_what_came_after() -> None:
    saved(5, 6, 7)
    saved(6)
    assert kept() == [name(5), name(6)]
    saved(1)
    assert kept() == [name(1)]


def test_only_the_owner_can_read() -> None:
    saved(1)
    assert (folder() / name(1)).stat().st_mode & 0o777 == 0o600
    for path in (folder(), *list(folder().parents)[:3]):
        assert path.stat().st_mode & 0o777 == 0o700, path


def test_a_second_process_with_this_name_is_refused() -> None:
    with opened():
        double = "two clients have the name 'client-0'"
        with pytest.raises(PrivateStoreError, match=double), opened():
            pass
        with opened(client="client-1"):
            pass
    with opened():
        pass


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_refused_by_name_and_left_alone(data: st.DataObject) -> None:
    path = folder() / name(1)
    path.unlink(missing_ok=True)
    saved(1)
    whole = path.read_bytes()
    if data.draw(st.booleans(), "cut"):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1), "length")]
    else:
        position = data.draw(st.integers(0, len(whole) - 1), "position")
        bit = 1 << data.draw(st.integers(0, 7), "bit")
        damaged = whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :]
    path.write_bytes(damaged)
    with opened() as store:
        with pytest.raises(PrivateStoreError, match=path.name):
            store.load(1)
        with pytest.raises(PrivateStoreError, match=path.name):
            store.save(state(2), 1)
    assert path.read_bytes() == damaged
    path.unlink()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (PrivateFormat("d" * 64, "k" * 64, 4, 8, "gate", 1), "clip"),
        (PrivateFormat("c" * 64, "l" * 64, 4, 8, "gate", 1), "classes"),
        (PrivateFormat("c" * 64, "k" * 64, 8, 8, "gate", 1), "n_ctx"),
        (PrivateFormat("c" * 64, "k" * 64, 4, 16, "gate", 1), "width"),
        (PrivateFormat("c" * 64, "k" * 64, 4, 8, "gate", 2), "gate_size"),
        (PrivateFormat("c" * 64, "k" * 64, 4, 8, "class_weight", 1), "fusion"),
    ],
)
def test_a_file_made_for_something_else_is_foreign(other: PrivateFormat, named: str) -> None:
    saved(1)
    refused = pytest.raises(PrivateStoreError, match=f"foreign: its {named} is")
    with opened(other) as store, refused:
        store.load(1)


def test_a_file_of_another_client_run_or_round_is_foreign() -> None:
    saved(1)
    content = (folder() / name(1)).read_bytes()
    for there, expected, number in (
        (paths.private_dir("demo", "run-1", "client-1"), "client is client-0", 1),
        (paths.private_dir("demo", "run-2", "client-0"), "run is run-1", 1),
        (folder(), "round is 1", 2),
    ):
        fileio.write_bytes(there / name(number), content)
        store = PrivateStore(there, there.parent.name, there.name, FORMAT, lambda _: None)
        with pytest.raises(PrivateStoreError, match=f"its {expected}"):
            store.load(number)


def test_a_damaged_file_that_is_no_longer_needed_is_left_and_named() -> None:
    saved(1, 2, 3)
    (folder() / name(1)).write_bytes(b"damaged")
    said: list[str] = []
    with opened(log=said.append) as store:
        store.save(state(4), 4)
    assert (folder() / name(1)).read_bytes() == b"damaged"
    assert len(said) == 1 and name(1) in said[0]


def test_a_damaged_file_is_set_aside_only_when_asked_for() -> None:
    saved(1, 2, 3)
    for number in (2, 3):
        (folder() / name(number)).write_bytes(b"damaged")
    with opened() as store, pytest.raises(PrivateStoreError, match=r"move it away.*private_aside"):
        store.load(3)
    assert kept() == [name(1), name(2), name(3)]

    said: list[str] = []
    with open_store("demo", "run-1", "client-0", FORMAT, said.append, set_aside=True) as store:
        loaded = store.load(3)
        assert loaded is not None and loaded.private is not None and (loaded.private == 1).all()
        (folder() / name(1)).write_bytes(b"damaged too")
        (folder() / name(3)).write_bytes(b"damaged again")
        assert store.load(3) is None
        store.save(state(3), 3)
    asides = [f"{name(1)}.aside-1", f"{name(2)}.aside-1", f"{name(3)}.aside-1"]
    assert kept() == sorted([*asides, name(3), f"{name(3)}.aside-2"])
    assert (folder() / f"{name(3)}.aside-1").read_bytes() == b"damaged"
    assert [line.rpartition(" ")[2] for line in said] == [
        f"{name(3)}.aside-1",
        f"{name(2)}.aside-1",
        f"{name(3)}.aside-2",
        f"{name(1)}.aside-1",
    ]


def test_a_file_that_is_no_safetensors_of_ours_is_refused() -> None:
    from safetensors.numpy import save

    folder().mkdir(parents=True)
    (folder() / name(1)).write_bytes(save({"weights": np.zeros(3, np.float32)}))
    with opened() as store, pytest.raises(PrivateStoreError, match="checksum"):
        store.load(1)


def test_a_full_disk_leaves_the_previous_file() -> None:
    saved(1)
    before = (folder() / name(1)).read_bytes()
    with full_disk(), opened() as store:
        for number in (1, 2):
            with pytest.raises(OSError, match="No space left"):
                store.save(state(9), number)
    assert kept() == [name(1)]
    assert (folder() / name(1)).read_bytes() == before


def test_another_run_gives_the_start() -> None:
    saved(1, 2)
    start = start_from("demo", "run-1", "client-0", FORMAT)
    assert start.private is not None and (start.private == 2).all()
    assert start.weight is not None and (start.weight == 2).all()
    for fusion, size in (("fixed", 0), ("class_weight", 1)):
        other_gate = PrivateFormat("c" * 64, "k" * 64, 4, 8, fusion, size)
        start = start_from("demo", "run-1", "client-0", other_gate)
        assert start.private is not None and (start.private == 2).all()
        assert start.weight is None
    with pytest.raises(PrivateStoreError, match="holds no private prompt"):
        start_from("demo", "run-0", "client-0", FORMAT)
    with pytest.raises(PrivateStoreError, match="foreign: its n_ctx"):
        start_from("demo", "run-1", "client-0", PrivateFormat("c" * 64, "k" * 64, 8, 8, "gate", 1))


WRITER = """
import sys
import numpy as np
from client_app.private_format import PrivateFormat
from client_app.private_store import open_store
from fedrsclip_core.learning.prompts import ClientState
expected = PrivateFormat("c" * 64, "k" * 64, n_ctx=4, width=8, fusion="gate", gate_size=1)
number = int(sys.argv[1])
while True:
    with open_store("demo", "run-1", "client-0", expected, lambda _: None) as store:
        number += 1
        value = np.float32(number)
        store.save(ClientState(np.full((4, 8), value), np.full(1, value)), number)
        print(number, flush=True)
"""


def test_a_killed_writer_leaves_the_previous_or_the_new_file() -> None:
    generator = random.Random(0)
    last = 0
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(last)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            written = int(writer.stdout.readline())
            time.sleep(generator.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                if line.endswith("\n"):
                    written = int(line)
        with opened() as store:
            found = store.load(10**6)
        assert found is not None and found.private is not None
        last = int(found.private[0, 0])
        assert last in (written, written + 1)
        assert (found.private == last).all()
        assert all(entry.endswith(".safetensors") for entry in kept())
        assert 1 <= len(kept()) <= 4


OFFSETS = PrivateFormat(
    clip="c" * 64,
    classes="k" * 64,
    n_ctx=0,
    width=8,
    fusion="fixed",
    gate_size=0,
    offset_classes=3,
    dim=5,
)


def test_class_offsets_are_stored_without_a_prompt() -> None:
    offsets = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    with opened(OFFSETS) as store:
        store.save(ClientState(None, class_offsets=offsets), 1)
        loaded = store.load(1)
    assert loaded is not None and loaded.class_offsets is not None
    assert loaded.class_offsets.tobytes() == offsets.tobytes()
    assert (loaded.private, loaded.weight) == (None, None)
    assert start_from("demo", "run-1", "client-0", OFFSETS).class_offsets is not None


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (FORMAT, "n_ctx is 0, expected 4"),
        (replace(OFFSETS, offset_classes=4), "offset_classes is 3, expected 4"),
        (replace(OFFSETS, dim=6), "dim is 5, expected 6"),
    ],
)
def test_offsets_of_another_form_are_foreign(other: PrivateFormat, word: str) -> None:
    with opened(OFFSETS) as store:
        store.save(ClientState(None, class_offsets=np.zeros((3, 5), np.float32)), 1)
    with opened(other) as store, pytest.raises(PrivateStoreError, match=word):
        store.load(1)


def test_a_file_of_an_earlier_version_is_known_by_the_clips_earlier_name() -> None:
    """It named a CLIP by its files; this one by what is computed with it."""
    with opened(replace(FORMAT, clip="e" * 64)) as store:
        store.save(state(1), 1)
    with opened() as store, pytest.raises(PrivateStoreError, match="foreign: its clip is"):
        store.load(1)
    earlier = lambda: "e" * 64  # noqa: E731 - a constant
    with open_store(
        "demo", "run-1", "client-0", FORMAT, lambda _: None, earlier_clip=earlier
    ) as store:
        loaded = store.load(1)
        assert loaded is not None
        store.save(state(2), 2)
    assert start_from("demo", "run-1", "client-0", FORMAT, earlier).private is not None
    with opened() as store:
        assert store.load(2) is not None, "what is written now has the new name"
