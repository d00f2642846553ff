from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.hub import loading, stream
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.data.hub.stream import StreamedRows
from fedrsclip_core.errors import DataError, RunError
from tests.unit.data.hub.rows import make_rows, png, save_columns, save_splits, spec_of

pytestmark = pytest.mark.unit

COUNTS = {"train": 9, "val": 3, "test": 4, "noisy": 2}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for seed, (name, count) in enumerate(COUNTS.items()):
        rows = make_rows(tmp_path / "png", [i % 3 for i in range(count)], seed=seed)
        rows.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that are read from streams."""
    counted = [0]
    rows = stream._rows

    def counting(*args: Any) -> Iterator[dict[str, Any]]:
        for row in rows(*args):
            counted[0] += 1
            yield row

    monkeypatch.setattr(stream, "_rows", counting)
    return counted


def test_a_stream_is_understood_as_the_same_rows_on_disk(shards: Path) -> None:
    on_disk, streamed = (HubSource(spec_of(shards, streaming=s)) for s in (False, True))
    assert streamed.sequential
    assert not on_disk.sequential
    assert streamed.class_names == on_disk.class_names
    assert streamed.labels.tolist() == on_disk.labels.tolist()
    assert streamed.given_parts is not None
    assert np.bincount(streamed.given_parts).tolist() == [9, 3, 4]
    for i in range(len(on_disk)):
        assert streamed.content_hash(i) == on_disk.content_hash(i)
        assert streamed.encoded(i) == on_disk.encoded(i)


def test_save_to_disk_copy_with_a_column_of_splits(tmp_path: Path) -> None:
    columns = {
        "picture": [png(i) for i in range(6)],
        "target": [0, 1] * 3,
        "target_name": ["river", "beach"] * 3,
        "split": ["train"] * 4 + ["test", "noisy"],
    }
    spec = save_columns(tmp_path / "saved", columns)
    streamed = HubSource(spec_of(tmp_path / "saved", streaming=True))
    on_disk = HubSource(spec)
    assert streamed.notes == on_disk.notes
    assert streamed.labels.tolist() == on_disk.labels.tolist() == [1, 0, 1, 0, 1]
    assert [streamed.encoded(i) for i in range(5)] == columns["picture"][:5]


def test_images_are_read_twice_in_all(shards: Path, tmp_path: Path, reads: list[int]) -> None:
    source = HubSource(spec_of(shards, streaming=True))
    assert reads == [16]
    encoding = Encoding(
        lambda image: np.asarray(image, dtype=np.float32).mean(axis=(0, 1)),
        lambda prepared: np.stack(prepared),
    )
    cache = FeatureCache(tmp_path / "cache", "encoder", 3, 2**30)
    order = np.concatenate([np.arange(8, 16), np.arange(8)])  # a client's parts are in any order
    options: dict[str, Any] = {"batch_size": 3, "max_unreadable": 0.0, "on_event": print}
    features, kept = cache.features(source, order, lambda: encoding, **options)
    assert kept.tolist() == order.tolist()
    assert reads == [32]
    again, _ = cache.features(source, order, lambda: encoding, **options)
    np.testing.assert_array_equal(features, again)
    HubSource(spec_of(shards, streaming=True))
    assert reads == [32]


def test_the_window_is_bounded_and_an_earlier_row_begins_again(
    shards: Path, reads: list[int]
) -> None:
    source = HubSource(spec_of(shards, streaming=True))
    images = [source.encoded(i) for i in range(16)]
    rows = StreamedRows(
        spec_of(shards), ["train", "validation", "test"], "image", [Path("/")], window_bytes=3000
    )
    assert [rows.encoded(i) for i in range(16)] == images
    assert sum(map(len, images)) > 9000
    reads[0] = 0
    assert rows.encoded(15) == images[15]
    assert reads == [0]
    assert rows.encoded(2) == images[2]
    assert reads == [3]


def test_rows_without_an_image_are_unreadable(tmp_path: Path) -> None:
    columns = {"image": [png(), None, png(2)], "label": ["river", "beach", "river"]}
    save_columns(tmp_path / "saved", columns)
    source = HubSource(spec_of(tmp_path / "saved", streaming=True))
    assert source.encoded(2) == png(2)
    with pytest.raises(DataError, match="has no image"):
        source.content_hash(1)
    with pytest.raises(DataError, match="has no image"):
        source.encoded(1)


def test_a_stream_that_breaks_off_stops_the_run_and_marks_no_image(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HubSource(spec_of(shards, streaming=True))
    opened = loading.stream(spec_of(shards)).splits["train"]

    class Broken:
        features = opened.features

        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield from list(opened)[:2]
            raise ConnectionError

    monkeypatch.setattr(loading, "stream", lambda spec: loading.Loaded({"train": Broken()}, []))
    with pytest.raises(RunError, match=r"cannot be read to their end \(ConnectionError\)"):
        source.image(5)


def test_rows_that_went_away_are_noticed(shards: Path) -> None:
    rows = StreamedRows(spec_of(shards), ["validation"], "image", [Path("/")])
    with pytest.raises(RunError, match="has fewer rows than before"):
        rows.encoded(3)


def test_equal_images_are_found_in_a_stream_too(tmp_path: Path) -> None:
    save_splits(tmp_path, {"train": 4})
    rows = make_rows(tmp_path / "png", [0, 1, 2, 0])
    folder = tmp_path / "set"
    folder.mkdir()
    rows.to_parquet(folder / "train.parquet")
    rows.select([1]).to_parquet(folder / "test.parquet")
    source = HubSource(spec_of(folder, streaming=True))
    assert source.labels.tolist() == [0, 2, 0, 1]
    assert "images left out of train, since val or test has an equal image: 1" in source.notes


def test_files_on_the_hub_are_fetched_if_they_are_the_data_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def opened(url: str, mode: str) -> BytesIO:
        asked.append(url)
        return BytesIO(png())

    monkeypatch.setattr("datasets.utils.file_utils.xopen", opened)
    spec = HubSpec("owner/scenes", "a" * 40, streaming=True)
    ours = f"hf://datasets/owner/scenes@{'a' * 40}"
    for url in (f"{ours}/a.png", f"zip://a.png::{ours}/images.zip"):
        assert stream._fetched(spec, url) == png()
    for url in ("hf://datasets/owner/other@main/a.png", "https://x.org/a.png", "/etc/hosts"):
        assert stream._fetched(spec, url) is None
    assert len(asked) == 2


def test_a_stream_from_the_hub_needs_the_hub() -> None:
    with pytest.raises(DataError, match=r"from the hub \(data\.streaming\), which cannot be reach"):
        HubSource(HubSpec("owner/scenes", streaming=True))
