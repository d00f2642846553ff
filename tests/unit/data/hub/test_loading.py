import io
import json
import tarfile
from pathlib import Path

import pytest

from fedrsclip_core.data.hub.source import HubSource
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder, save_image
from tests.unit.data.hub.rows import make_rows, png, spec_of

pytestmark = pytest.mark.unit


@pytest.fixture
def configurations(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for seed, name in enumerate(("rgb", "radar")):
        (folder / name).mkdir(parents=True)
        rows = make_rows(tmp_path / "png", [0, 1, 2][: 2 + seed], seed=seed)
        rows.to_parquet(folder / name / "train.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: rgb\n  data_files: rgb/*.parquet\n"
        "- config_name: radar\n  data_files: radar/*.parquet\n---\n"
    )
    return folder


def test_one_of_several_configurations_must_be_named(configurations: Path) -> None:
    with pytest.raises(DataError, match=r"several configurations .*hub_config to one of rgb, "):
        HubSource(spec_of(configurations))
    with pytest.raises(DataError, match=r"no configuration 'sar': set data\.hub_config to one of"):
        HubSource(spec_of(configurations, config="sar"))
    assert len(HubSource(spec_of(configurations, config="rgb"))) == 2
    assert len(HubSource(spec_of(configurations, config="radar"))) == 3


def test_a_copy_without_configurations_has_none_to_choose(tmp_path: Path) -> None:
    make_rows(tmp_path / "png", [0, 1]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="has no configurations: leave"):
        HubSource(spec_of(tmp_path / "saved", config="rgb"))


def test_a_script_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "scenes.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(DataError, match=r"made by a script, .* \(branch refs/convert/parquet\)"):
        HubSource(spec_of(folder))


@pytest.mark.parametrize("name", ["train.parquet", "data/test.parquet", "images/river/1.jpg"])
def test_pointers_of_git_lfs_are_named(tmp_path: Path, name: str) -> None:
    pointer = tmp_path / "set" / name
    pointer.parent.mkdir(parents=True)
    pointer.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
    )
    with pytest.raises(DataError, match=r"is a pointer of git-lfs, .* run `git lfs pull`"):
        HubSource(spec_of(tmp_path / "set"))


def test_webdataset_shards(tmp_path: Path) -> None:
    words = ["river", "beach", "lake", "river"]
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as tar:
            for i in range(2):
                number = 2 * shard + i
                label = json.dumps({"class": words[number]}).encode()
                for suffix, data in (("png", png(number)), ("json", label)):
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    source = HubSource(spec_of(tmp_path))
    assert [source.class_names[c] for c in source.labels] == words
    assert [source.encoded(i) for i in range(4)] == [png(i) for i in range(4)]


def test_metadata_beside_images(tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / "set" / f"{i}.png", seed=i)
    lines = "".join(f"{i}.png,{word}\n" for i, word in enumerate(("river", "beach", "river")))
    (tmp_path / "set" / "metadata.csv").write_text(f"file_name,label\n{lines}")
    source = HubSource(spec_of(tmp_path / "set"))
    assert source.class_names == ["beach", "river"]
    assert source.labels.tolist() == [1, 0, 1]


def test_a_class_is_not_taken_for_a_split(tmp_path: Path) -> None:
    make_folder(tmp_path / "set", {"airport": 2, "train_station": 3})
    with pytest.raises(DataError, match=r"would read 3 images of 5: use data=folder"):
        HubSource(spec_of(tmp_path / "set"))


def test_folders_beside_those_of_splits_are_named(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "test", "noisy")):
        for i, name in enumerate(("beach", "river", "beach", "river")):
            save_image(tmp_path / "set" / part / name / f"{i}.png", seed=10 * seed + i)
    source = HubSource(spec_of(tmp_path / "set"))
    assert len(source) == 8
    assert "4 files are not read, in noisy/beach, noisy/river: they are of no split" in source.notes


def test_arrow_file_alone(tmp_path: Path) -> None:
    make_rows(tmp_path / "png", [0, 1, 0]).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.rename(tmp_path / "rows.arrow")
    assert HubSource(spec_of(tmp_path / "rows.arrow")).labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.parquet", b"PAR1 no more", r"cannot be loaded \(ArrowInvalid: "),
        ("notes.txt", b"hello", r"is no file of a data set: .* \.parquet"),
        ("images.zip", b"PK", "is no file of a data set: .* unpack an archive"),
    ],
)
def test_files_that_are_no_data_set(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        HubSource(spec_of(tmp_path / name))


def test_a_pattern_that_fits_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data set at"):
        HubSource(spec_of(tmp_path / "*.parquet"))
