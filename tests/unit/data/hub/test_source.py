import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from fedrsclip_core.data.hub.index import find_index
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.data.hub.spec import HubSpec
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder, save_image
from tests.unit.data.hub.rows import COMMITS, NAMES, cache_hub_copy, make_rows, spec_of

pytestmark = pytest.mark.unit


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_rows(tmp_path / "png", [0, 1, 1, 0]).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_other_names_for_a_class(saved: Path) -> None:
    source = HubSource(spec_of(saved), ["lake", "shore", "river"], {"beach": "shore"})
    assert source.labels.tolist() == [2, 1, 1, 2]
    assert HubSource(spec_of(saved), (), {"beach": "shore"}).class_names == [
        "river",
        "shore",
        "lake",
    ]
    with pytest.raises(DataError, match="no class 'beach'"):
        HubSource(spec_of(saved), ["lake", "shore", "river"])


def test_save_to_disk_copy(saved: Path, tmp_path: Path) -> None:
    source = HubSource(spec_of(saved))
    assert source.class_names == NAMES
    assert source.labels.tolist() == [0, 1, 1, 0]
    assert source.given_parts is None
    from PIL import Image

    with Image.open(tmp_path / "png" / "0-2.png") as image:
        np.testing.assert_array_equal(np.asarray(source.image(2)), np.asarray(image))
    assert len({source.content_hash(i) for i in range(4)}) == 4


def test_local_parquet_folder_with_a_test_split(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    make_rows(tmp_path / "png", [0, 1, 2]).to_parquet(folder / "train.parquet")
    make_rows(tmp_path / "png", [2, 0], seed=1).to_parquet(folder / "test.parquet")
    source = HubSource(spec_of(folder), ["beach", "river", "lake"])
    assert source.labels.tolist() == [1, 0, 2, 2, 1]
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [0, 0, 0, 2, 2]
    assert source.image(4).size == (24, 24)


def test_one_parquet_file_with_names_as_labels(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "png", ["river", "beach"], datasets.Value("string"))
    rows.to_parquet(tmp_path / "set.parquet")
    source = HubSource(spec_of(tmp_path / "set.parquet"))
    assert source.class_names == ["beach", "river"]
    assert source.labels.tolist() == [1, 0]
    assert source.image(0).mode == "RGB"


def test_image_folder_as_a_data_set(tmp_path: Path) -> None:
    make_folder(tmp_path / "set", {"beach": 2, "river": 1})
    source = HubSource(spec_of(tmp_path / "set"))
    assert source.class_names == ["beach", "river"]
    assert source.labels.tolist() == [0, 0, 1]
    assert source.image(2).size == (24, 24)


def test_second_opening_needs_no_datasets_library(saved: Path) -> None:
    first = HubSource(spec_of(saved))
    code = (
        "import sys; from pathlib import Path\n"
        "from fedrsclip_core.data.hub.source import HubSource\n"
        "from fedrsclip_core.data.hub.spec import HubSpec\n"
        "source = HubSource(HubSpec(path=Path(sys.argv[1])))\n"
        "assert not {'datasets', 'PIL', 'pyarrow', 'torch'} & set(sys.modules)\n"
        "print(source.labels.tolist(), source.stat_key(1))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == f"[0, 1, 1, 0] {first.stat_key(1)}"


def test_changed_data_are_noticed(saved: Path, tmp_path: Path) -> None:
    before = HubSource(spec_of(saved)).stat_key(0)
    make_rows(tmp_path / "png", [2, 2], seed=7).save_to_disk(tmp_path / "newer")
    saved.rename(tmp_path / "older")
    (tmp_path / "newer").rename(saved)
    source = HubSource(spec_of(saved))
    assert source.labels.tolist() == [2, 2]
    assert source.stat_key(0) != before


def test_the_commit_of_a_copy_from_the_hub_is_known(saved: Path, tmp_path: Path) -> None:
    cache_hub_copy(datasets.load_from_disk(str(saved)), tmp_path, COMMITS[0])
    newest = HubSpec("owner/scenes")
    index = find_index(newest)
    assert index.commit == COMMITS[0]
    assert find_index(replace(newest, revision=COMMITS[0])) == index
    with pytest.raises(DataError, match=f"is of commit {COMMITS[0]}, not {COMMITS[1]}"):
        find_index(replace(newest, revision=COMMITS[1]))
    assert find_index(spec_of(saved)).commit is None


def test_a_pinned_copy_stays_when_the_hub_has_another(saved: Path, tmp_path: Path) -> None:
    newest = HubSpec("owner/scenes")
    cache_hub_copy(datasets.load_from_disk(str(saved)), tmp_path, COMMITS[0])
    labels = find_index(newest).labels
    make_rows(tmp_path / "png", [2, 2], seed=7).save_to_disk(tmp_path / "newer")
    cache_hub_copy(datasets.load_from_disk(str(tmp_path / "newer")), tmp_path, COMMITS[1])
    assert find_index(replace(newest, revision=COMMITS[0])).labels == labels
    assert find_index(replace(newest, revision=COMMITS[1])).labels == [2, 2]


def test_damaged_index_is_rebuilt(saved: Path) -> None:
    HubSource(spec_of(saved))
    (index,) = (saved.parent / "fedrsclip-home" / "datasets").glob("*.json")
    index.write_text("{")
    assert HubSource(spec_of(saved)).labels.tolist() == [0, 1, 1, 0]


def test_row_without_image_is_unreadable(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    rows = {"image": [str(tmp_path / "a.png"), None], "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    source = HubSource(spec_of(tmp_path / "saved"))
    assert source.image(0).mode == "RGB"
    with pytest.raises(DataError, match="has no image"):
        source.content_hash(1)


def test_class_that_the_federation_does_not_know(saved: Path) -> None:
    with pytest.raises(DataError, match="no class 'river'"):
        HubSource(spec_of(saved), ["beach", "lake"])
    assert HubSource(spec_of(saved), ["beach", "river"]).labels.tolist() == [1, 0, 0, 1]


def test_missing_column_names_the_others(saved: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'class': set data\.label_column to one of"):
        HubSource(spec_of(saved, label_column="class"))
    with pytest.raises(DataError, match=r"'label' of .* holds no images"):
        HubSource(spec_of(saved, image_column="label"))


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    make_rows(tmp_path / "png", [0, 1], datasets.Value("int64")).save_to_disk(tmp_path / "saved")
    with pytest.raises(
        DataError, match=r"numbers for classes \(0, 1\), but CLIP needs words: set "
    ):
        HubSource(spec_of(tmp_path / "saved"))


def test_row_without_label_is_refused(tmp_path: Path) -> None:
    make_rows(tmp_path / "png", [0, -1]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="1 of 2 rows"):
        HubSource(spec_of(tmp_path / "saved"))


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set at"):
        HubSource(spec_of(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be loaded"):
        HubSource(spec_of(tmp_path / "empty"))
