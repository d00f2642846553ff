import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.errors import DataError
from tests.unit.data.cache_helpers import DIM, CountingSource, Run, encoding, vector_of
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images", {"beach": 12, "river": 12})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_second_run_encodes_hashes_and_opens_nothing(root: Path, cache: Path) -> None:
    first = Run(cache, root)
    assert first.work == (24, 24, 24)
    assert first.progress == [(8, 24), (16, 24), (24, 24)]
    first.assert_right()
    second = Run(cache, root)
    assert second.work == (0, 0, 0)
    assert second.events == second.progress == []
    np.testing.assert_array_equal(second.features, first.features)
    assert second.features.dtype == np.float32
    assert second.kept.tolist() == list(range(24))


def test_the_newest_grows_with_each_image_encoded(root: Path, cache: Path) -> None:
    features = FeatureCache(cache, "encoder-a", DIM, 2**30)
    assert features.newest() == 0
    Run(cache, root)
    assert features.newest() == 24
    Run(cache, root)
    assert features.newest() == 24


def test_hashes_are_remembered_for_both(root: Path, cache: Path) -> None:
    source, events = CountingSource(root), []
    features = FeatureCache(cache, "encoder-a", DIM, 2**30)
    hashes = features.content_hashes(source, events.append)
    assert sorted(source.hashed) == list(range(len(source)))
    assert hashes == [FolderSource.content_hash(source, i) for i in range(len(source))]
    assert Run(cache, root).work == (24, 0, 24)
    again = CountingSource(root)
    assert features.content_hashes(again, events.append) == hashes
    assert again.hashed == events == []


class Denied(CountingSource):
    """Its fourth image may not be read."""

    def content_hash(self, i: int) -> str:
        if i == 3:
            raise DataError("cannot be read (Permission denied)")
        return super().content_hash(i)


def test_an_image_without_a_hash_is_asked_for_again(root: Path, cache: Path) -> None:
    source = CountingSource(root)
    features = FeatureCache(cache, "encoder-a", DIM, 2**30)
    hashes = features.content_hashes(Denied(root), print)
    assert [i for i, content in enumerate(hashes) if content is None] == [3]
    assert None not in features.content_hashes(source, print)
    assert source.hashed == [3]


def test_the_hash_of_a_file_that_changes_meanwhile_is_not_remembered(
    root: Path, cache: Path
) -> None:
    class Overtaken(CountingSource):
        def content_hash(self, i: int) -> str:
            found = super().content_hash(i)
            if i == 3:
                save_image(root / self.describe(i), seed=99)
            return found

    source = CountingSource(root)
    features = FeatureCache(cache, "encoder-a", DIM, 2**30)
    features.content_hashes(Overtaken(root), print)
    assert features.content_hashes(source, print)[3] == source.content_hash(3)
    assert source.hashed == [3, 3]


def test_half_precision_is_rounded_once_and_takes_half_the_room(root: Path, cache: Path) -> None:
    """Features are equal in bits whether they come from the encoder or from the disk."""
    whole = Run(cache, root)
    first = Run(cache, root, key="halves", dtype=np.float16)
    assert first.work == (24, 24, 24)
    first.assert_right()
    second = Run(cache, root, key="halves", dtype=np.float16)
    assert second.work == (0, 0, 0)
    assert first.features.dtype == second.features.dtype == np.float16
    assert first.features.tobytes() == second.features.tobytes()
    sizes = {_vector_bytes(file) for file in cache.glob("*.sqlite")}
    assert sizes == {4 * DIM, 2 * DIM}
    assert Run(cache, root).features.tobytes() == whole.features.tobytes()


def _vector_bytes(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT max(length(vector)) FROM features").fetchone()[0])


def test_order_and_choice_of_indices(root: Path, cache: Path) -> None:
    everything = Run(cache, root)
    source = CountingSource(root)
    features, kept = FeatureCache(cache, "encoder-a", DIM, 2**30).features(
        source, np.array([5, 2, 20]), encoding(everything.encoder), batch_size=2, max_unreadable=0,
        on_event=print,
    )  # fmt: skip
    assert kept.tolist() == [5, 2, 20]
    np.testing.assert_array_equal(features, everything.features[[5, 2, 20]])


def not_loaded() -> Encoding:
    raise AssertionError("no feature is missing")


def test_no_indices(root: Path, cache: Path) -> None:
    features, kept = FeatureCache(cache, "encoder-a", DIM, 2**30).features(
        CountingSource(root), [], not_loaded, batch_size=2, max_unreadable=0, on_event=print,
    )  # fmt: skip
    assert features.shape == (0, DIM)
    assert len(kept) == 0


def test_changed_image_is_encoded_again(root: Path, cache: Path) -> None:
    Run(cache, root)
    save_image(root / "beach" / "beach03.png", seed=999)
    run = Run(cache, root)
    assert run.work == (1, 1, 1)
    run.assert_right()


def test_moved_folder_is_hashed_but_not_encoded(root: Path, cache: Path) -> None:
    Run(cache, root)
    moved = root.rename(root.parent / "moved")
    assert Run(cache, moved).work == (0, 24, 0)
    assert Run(cache, moved).work == (0, 0, 0)


def test_equal_images_are_encoded_once(tmp_path: Path, cache: Path) -> None:
    for i in range(6):
        save_image(tmp_path / "images" / "beach" / f"{i}.png", seed=i % 2)
    run = Run(cache, tmp_path / "images")
    assert run.encoder.encoded == 2
    run.assert_right()


def test_equal_images_of_different_batches_are_decoded_and_encoded_once(
    tmp_path: Path, cache: Path
) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png", "e.png"):
        save_image(tmp_path / "equal" / "beach" / name, seed=1)
    run = Run(cache, tmp_path / "equal", batch_size=1)
    assert run.work == (1, 5, 1)
    assert len(run.features) == 5
    run.assert_right()


def test_an_image_that_stays_unreadable_does_not_cost_its_equal_one(
    tmp_path: Path, cache: Path
) -> None:
    """The second of two equal images is not read ahead; it must be read when the first fails."""

    class OnlyTheSecond(CountingSource):
        def image(self, i: int):  # type: ignore[no-untyped-def]
            if i == 0:
                raise DataError("gone for a moment")
            return super().image(i)

    for name in ("a.png", "b.png"):
        save_image(tmp_path / "equal" / "beach" / name, seed=1)
    equal = tmp_path / "equal"
    run = Run(cache, equal, batch_size=1, max_unreadable=0.5, source=OnlyTheSecond)
    assert run.kept.tolist() == [1]
    run.assert_right()


def fill(cache: Path, source: CountingSource, encode: Callable[[list[Any]], np.ndarray]) -> None:
    """Encode batches of four."""
    FeatureCache(cache, "encoder-a", DIM, 2**30).features(
        source, range(len(source)), encoding(encode), batch_size=4, max_unreadable=0, on_event=print
    )


def test_the_next_batch_is_decoded_while_one_is_encoded(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source, seen = CountingSource(root), []

    def encode(images: list[Any]) -> np.ndarray:
        deadline = time.monotonic() + 10
        expected = min(24, 4 * (len(seen) + 2))
        while len(source.opened) < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append(len(source.opened))
        return np.stack([vector_of(image) for image in images])

    fill(cache, source, encode)
    assert all(done >= min(24, 4 * (k + 2)) for k, done in enumerate(seen))
    assert seen[0] <= 16, "what waits in memory is bounded"


@pytest.mark.parametrize("cpus", [1, 2])
def test_batches_are_encoded_side_by_side_and_committed_in_order(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, cpus: int
) -> None:
    monkeypatch.setattr("fedrsclip_core.data.features.pipeline.available_cpus", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", str(cpus))
    running, most, lock, both = 0, 0, Lock(), Barrier(2)
    threads = torch.get_num_threads()

    def encode(images: list[Any]) -> np.ndarray:
        nonlocal running, most
        assert torch.get_num_threads() == 1
        with lock:
            running += 1
            most = max(most, running)
        if cpus == 2:
            both.wait(timeout=10)
        with lock:
            running -= 1
        return np.stack([vector_of(image) for image in images])

    fill(cache, CountingSource(root), encode)
    assert most == cpus
    assert torch.get_num_threads() == threads
    run = Run(cache, root)
    assert run.work == (0, 0, 0)
    run.assert_right()


def test_another_encoder_has_its_own_features(root: Path, cache: Path) -> None:
    Run(cache, root, key="encoder-a")
    assert Run(cache, root, key="encoder-b").work == (24, 24, 24)
    assert Run(cache, root, key="encoder-a").work == (0, 0, 0)


def test_files_that_are_left_out_weigh_with_the_unreadable_images(root: Path, cache: Path) -> None:
    for i in range(2):
        broken = root / "beach" / f"beach{i:02d}.png"
        broken.write_bytes(broken.read_bytes()[:100])
    assert len(Run(cache, root, max_unreadable=0.1).kept) == 22
    (root / "beach" / "more.npy").write_bytes(b"x")
    with pytest.raises(DataError, match=r"2 of 24 images .*, and 1 other files of the site"):
        Run(cache, root, max_unreadable=0.1)
    assert len(Run(cache, root, max_unreadable=0.12).kept) == 22


def test_unreadable_images_are_named_skipped_and_counted(root: Path, cache: Path) -> None:
    broken = root / "beach" / "beach03.png"
    broken.write_bytes(broken.read_bytes()[:100])
    for work in ((23, 24, 24), (0, 0, 0)):  # told of again, but not tried again
        run = Run(cache, root)
        assert run.work == work
        assert run.kept.tolist() == [i for i in range(24) if i != 3]
        assert "beach/beach03.png" in run.events[0]
        assert "1 of 24" in run.events[1]
        run.assert_right()
    save_image(broken, seed=77)
    repaired = Run(cache, root)
    assert repaired.work == (1, 1, 1)
    assert len(repaired.kept) == 24


def test_file_that_cannot_be_opened_is_tried_again(root: Path, cache: Path) -> None:
    assert "Permission denied" in Run(cache, root, source=Denied).events[0]
    run = Run(cache, root)
    assert run.work == (1, 1, 1)
    assert run.events == []


def test_too_many_unreadable_images(root: Path, cache: Path) -> None:
    for i in (2, 7):
        (root / "beach" / f"beach{i:02d}.png").write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 of 24 .*max_unreadable=0\.05.*beach02\.png"):
            Run(cache, root)
    assert len(Run(cache, root, max_unreadable=0.1).kept) == 22


def test_image_that_changes_while_it_is_read_is_not_stored(root: Path, cache: Path) -> None:
    class ReplacedUnderOurHands(CountingSource):
        def image(self, i: int):  # type: ignore[no-untyped-def]
            if i == 3:
                save_image(root / "beach" / "beach03.png", seed=4242)
            return super().image(i)

    run = Run(cache, root, source=ReplacedUnderOurHands)
    assert "changed while it was read" in run.events[0]
    assert 3 not in run.kept
    run = Run(cache, root)
    assert run.work == (1, 1, 1)
    run.assert_right()


def test_failing_encoder_keeps_the_batches_before(root: Path, cache: Path) -> None:
    run = Run(cache, root, batch_size=24)
    calls = []

    def out_of_memory(images):  # type: ignore[no-untyped-def]
        calls.append(len(images))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return run.encoder(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        FeatureCache(cache, "encoder-b", DIM, 2**30).features(
            CountingSource(root), range(24), encoding(out_of_memory), batch_size=5,
            max_unreadable=0, on_event=print,
        )  # fmt: skip
    resumed = Run(cache, root, key="encoder-b")
    assert resumed.work == (14, 14, 14)
    resumed.assert_right()


@pytest.mark.parametrize("wrong", [np.zeros((2, DIM)), np.full((24, DIM), np.nan)])
def test_wrong_features_are_refused(root: Path, cache: Path, wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match="image encoder returned"):
        FeatureCache(cache, "encoder-a", DIM, 2**30).features(
            CountingSource(root), range(24), encoding(lambda images: wrong),
            batch_size=24, max_unreadable=0, on_event=print,
        )  # fmt: skip
    assert Run(cache, root).work == (24, 24, 24)


def test_size_is_bounded_and_the_oldest_leave(tmp_path: Path, cache: Path) -> None:
    early: Callable[[], float] = lambda: 1_000_000.0  # noqa: E731
    late: Callable[[], float] = lambda: 1_000_000.0 + 10 * 86400  # noqa: E731
    old = make_folder(tmp_path / "old", {"beach": 40})
    new = make_folder(tmp_path / "new", {"river": 60, "lake": 60})
    Run(cache, old, max_bytes=1, now=early)  # smaller than one row: nothing stays, all is returned
    limit = 300_000
    run = Run(cache, old, max_bytes=limit, now=early)
    assert run.work == (40, 40, 40)
    run.assert_right()
    assert Run(cache, old, max_bytes=limit, now=early).work == (0, 0, 0)
    run = Run(cache, new, max_bytes=limit, now=late)
    run.assert_right()
    assert "not used for longest" in run.events[0]
    assert sum(file.stat().st_size for file in cache.iterdir()) < 2 * limit
    assert Run(cache, old, max_bytes=limit, now=late).encoder.encoded > 0


def test_features_in_use_stay(tmp_path: Path, cache: Path) -> None:
    clock = [1_000_000.0]
    run = partial(Run, cache, now=lambda: clock[0])
    used = make_folder(tmp_path / "used", {"beach": 30})
    unused = make_folder(tmp_path / "unused", {"river": 150})
    run(used)
    clock[0] += 86400
    run(unused)
    clock[0] += 10 * 86400
    assert run(used).work == (0, 0, 0)
    run(make_folder(tmp_path / "more", {"sea": 40}), max_bytes=500_000)
    assert run(used).encoder.encoded == 0
    assert run(unused).encoder.encoded > 0


def test_what_is_wrong_with_all_images_is_said_once(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "images"
    for name in ("a", "b", "c"):
        (root / "beach").mkdir(parents=True, exist_ok=True)
        deep = np.full((8, 8), 2000, np.uint16)
        Image.fromarray(deep).save(root / "beach" / f"{name}.png")
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError) as caught:
            Run(cache, root, max_unreadable=0.5)
        said = str(caught.value)
        assert said.count("16-bit") == said.count("set data.stretch") == 1
        assert "each has 1 band of 16-bit" in said and "(beach/a.png, beach/b.png)" in said
