from pathlib import Path

import datasets
import numpy as np
import pytest

from fedrsclip_core.config.compose import compose
from fedrsclip_core.data.federated import open_images, split_source
from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.data.hub.split_names import parts_of
from fedrsclip_core.errors import DataError
from tests.unit.data.hub.rows import make_rows, png, save_columns, save_splits, spec_of

pytestmark = pytest.mark.unit

NOTHING: dict[int, tuple[str, ...]] = {0: (), 1: (), 2: ()}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("train test contrast gaussian_noise", {"train": 0, "test": 2}),
        ("train validation test", {"train": 0, "validation": 1, "test": 2}),
        ("train val", {"train": 0, "val": 1}),
        ("Training VALID Testing", {"Training": 0, "VALID": 1, "Testing": 2}),
        ("train dev eval", {"train": 0, "dev": 1, "eval": 2}),
        ("train eval test", {"train": 0, "test": 2}),
        ("train train_extra unlabeled", {"train": 0}),
        ("train_1 train_2 test", {"train_1": 0, "train_2": 0, "test": 2}),
        ("train_rgb test_rgb", {"train_rgb": 0, "test_rgb": 2}),
        ("s2_train s2_val", {"s2_train": 0, "s2_val": 1}),
        ("trainval test", {"trainval": 0, "test": 2}),
        ("train test_contrast test", {"train": 0, "test": 2}),
        ("all sample", {"all": 0}),
        ("full", {"full": 0}),
        ("latest", {"latest": 0}),
    ],
)
def test_what_a_split_is_for_is_told_by_its_name(names: str, parts: dict[str, int]) -> None:
    assert parts_of(names.split(), NOTHING, "data set x") == parts


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("test", "no split to train on, only test: name those to train on in data.train_splits"),
        ("validation", "no split to train on, only validation"),
        ("all test", "no split to train on, only all, test"),
        ("paris berlin", "no split to train on, only paris, berlin"),
        ("fold_1 fold_2", "no split to train on"),
        ("train_rgb train_ms test", "train_rgb, train_ms, and it cannot be told which of them is"),
        ("train val validation", "val, validation, and it cannot be told which of them is val"),
        ("train test_clean test_noise", "cannot be told which of them is test"),
        ("train Train", "cannot be told which of them is train"),
    ],
)
def test_what_cannot_be_told_is_asked(names: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        parts_of(names.split(), NOTHING, "data set x")


def test_splits_that_are_named_are_used_and_no_others() -> None:
    names = ["train", "contrast", "paris", "test"]
    chosen = {0: ("paris", "contrast"), 1: (), 2: ("train",)}
    assert parts_of(names, chosen, "x") == {"paris": 0, "contrast": 0, "train": 2}


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({0: ("lyon",), 1: (), 2: ()}, "no split 'lyon' with rows, which data.train_splits names"),
        ({0: ("train",), 1: ("train",), 2: ()}, "data.val_splits names 'train', which is named be"),
        ({0: (), 1: (), 2: ("test",)}, "data.train_splits is empty"),
    ],
)
def test_splits_that_cannot_be_as_they_are_named(
    chosen: dict[int, tuple[str, ...]], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        parts_of(["train", "test"], chosen, "data set x")


def test_noisy_copies_of_test_images_are_not_trained_on(tmp_path: Path) -> None:
    counts = {"train": 6, "test": 3, "contrast": 3, "gaussian_noise": 3}
    source = HubSource(save_splits(tmp_path, counts))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [0] * 6 + [2] * 3
    assert source.notes == [
        "splits with their images: train: train (6); test: test (3); left out: contrast (3), "
        "gaussian_noise (3)"
    ]


def test_a_validation_split_is_the_val_part(tmp_path: Path) -> None:
    source = HubSource(save_splits(tmp_path, {"test": 3, "validation": 4, "train": 6}))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [0] * 6 + [1] * 4 + [2] * 3


def test_a_set_of_test_images_only_can_be_split_if_one_says_so(tmp_path: Path) -> None:
    spec = save_splits(tmp_path, {"test": 6})
    with pytest.raises(DataError, match="no split to train on, only test"):
        HubSource(spec)
    source = HubSource(spec_of(tmp_path / "saved", splits=(("test",), (), ())))
    assert len(source) == 6
    assert source.given_parts is None


def test_test_images_are_taken_out_of_training(tmp_path: Path) -> None:
    train = make_rows(tmp_path / "png", [0, 1, 2, 0])
    other = make_rows(tmp_path / "png", [0, 1], seed=1)
    test = datasets.concatenate_datasets([other, train.select([2])])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "saved")
    source = HubSource(spec_of(tmp_path / "saved"))
    assert source.labels.tolist() == [0, 1, 0, 0, 1, 2]
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [0, 0, 0, 2, 2, 2]
    assert "images left out of train, since val or test has an equal image: 1" in source.notes
    hashes = [source.content_hash(i) for i in range(6)]
    assert len(set(hashes)) == 6
    assert source.describe(3).startswith("row 4 of")


def test_a_test_split_that_is_the_training_split_is_refused(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "png", [0, 1, 2])
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"every training image of .* is in val or test, too"):
        HubSource(spec_of(tmp_path / "saved"))


def test_the_data_sets_own_split_is_the_published_one(tmp_path: Path) -> None:
    spec = save_splits(tmp_path, {"train": 6, "test": 3})
    config = compose(["data=hub", f"data.path={spec.path}", "data.split=published"])
    split = split_source(config, open_images(config, spec.path, partition_id=0), [])
    assert split.test.tolist() == [6, 7, 8]
    config = compose(["data=hub", "data.train_splits=[train]", "data.split=published"])
    with pytest.raises(DataError, match=r"published, but this data set has no test split"):
        split_source(config, open_images(config, spec.path, partition_id=0), [])


def test_equal_images_stay_together_in_a_split_that_is_made_here(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "png", [0, 1, 2, 0])
    datasets.concatenate_datasets([rows, rows.select([1])]).save_to_disk(tmp_path / "saved")
    source = HubSource(spec_of(tmp_path / "saved"))
    assert source.groups == [[1, 4]]
    assert source.given_parts is None


def test_a_split_whose_labels_are_secret_is_left_out(tmp_path: Path) -> None:
    splits = {
        "train": make_rows(tmp_path / "png", [0, 1, 2]),
        "test": make_rows(tmp_path / "png", [-1, -1], seed=1),
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    source = HubSource(spec_of(tmp_path / "saved"))
    assert source.given_parts is None
    assert source.notes == ["splits without labels are left out: test (2)"]


def test_a_column_of_splits_is_read(tmp_path: Path) -> None:
    columns = {
        "image": [png(i) for i in range(6)],
        "label": ["river", "beach"] * 3,
        "split": ["test", "train", "train", "val", "contrast", None],
    }
    source = HubSource(save_columns(tmp_path / "saved", columns))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [2, 0, 0, 1]
    assert [source.encoded(i) for i in range(4)] == columns["image"][:4]
    columns["split"] = ["val", "validation", "train"] * 2
    with pytest.raises(DataError, match=r"column 'split' of .* has the splits val, validation"):
        HubSource(save_columns(tmp_path / "unclear", columns))
    columns["split"] = ["north", "south"] * 3
    assert HubSource(save_columns(tmp_path / "other", columns)).given_parts is None


def test_files_of_a_pattern_are_of_the_splits_that_their_names_say(tmp_path: Path) -> None:
    for seed, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-0")):
        rows = make_rows(tmp_path / "png", [0, 1, 2], seed=seed)
        rows.to_parquet(tmp_path / f"{name}.parquet")
    source = HubSource(spec_of(tmp_path / "*.parquet"))
    assert source.given_parts is not None
    assert np.bincount(source.given_parts).tolist() == [6, 0, 3]
    assert HubSource(spec_of(tmp_path / "train-*.parquet")).given_parts is None
