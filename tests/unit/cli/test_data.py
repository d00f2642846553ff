"""`fedrsclip data`: what is printed and written, and a sentence for each mistake."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrsclip.cli import main
from fedrsclip.data import specs
from fedrsclip.data.specs import find_spec
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """UC Merced with four images per class, so that tests can make it."""
    few = specs.read_table("uc_merced") | {"images_per_class": 4}
    known = specs.read_table
    monkeypatch.setattr(
        specs, "read_table", lambda name: dict(few) if name == "uc_merced" else known(name)
    )


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    find_spec.cache_clear()
    yield
    find_spec.cache_clear()


def uc_merced(folder: Path) -> Path:
    return make_folder(folder, dict.fromkeys(find_spec("uc_merced").class_names, 4))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "name",
        "optimal31",
        "uc_merced",
        "eurosat",
        "nwpu_resisc45",
    ]
    assert "10       2000 to 3000  27000" in lines[3]
    assert lines[4].split()[2:5] == ["45", "700", "31500"]


@pytest.mark.usefixtures("few_images")
def test_prepare_list_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uc_merced(tmp_path / "in" / "UCMerced_LandUse" / "Images")
    out = tmp_path / "data" / "uc_merced"
    assert main(["data", "prepare", "uc_merced", "--to", str(out), "--from", f"{tmp_path}/in"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"84 images in 21 classes in {out} (0 copied, 84 linked)\n")
    assert "cite: Yang, Yi; Newsam, Shawn" in said

    assert main(["data", "list", "--path", str(out.parent)]) == 0
    rows = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert rows == {"name": "found", "uc_merced": "uc_merced", "optimal31": "no"} | {
        "eurosat": "no",
        "nwpu_resisc45": "no",
    }
    (out / "river" / "river00.png").unlink()
    assert main(["data", "list", "--path", str(out.parent)]) == 0
    assert "uc_merced      incomplete" in capsys.readouterr().out


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize("first", [True, False])
def test_check_takes_options_and_overrides_in_any_order(
    tmp_path: Path, first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    uc_merced(tmp_path / "images")
    sheet = tmp_path / "sheet.png"
    options = ["--sheet", str(sheet), "--path", str(tmp_path / "images")]
    words = [*options, "uc_merced", "seed=3"] if first else ["uc_merced", "seed=3", *options]
    status = main(["data", "check", *words])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "seed=3 would tear" in said
    assert sheet.is_file()


def test_split_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "split", "seed=2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    out = tmp_path / "new" / "split.json"
    assert main(["data", "split", "seed=2", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == printed
    assert capsys.readouterr().out == f"split {printed['digest']} in {out}\n"
    assert printed["seed"] == 2


def test_a_split_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_folder(tmp_path, {"beach": 10, "lake": 10})
    words = ["data=folder", "model=local", f"data.path={images}", "federation.num_clients=2"]
    assert main(["data", "split", *words]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["beach", "lake"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["check", "bigearthnet"],
            "there is no data set 'bigearthnet' and no such folder or list of images",
        ),
        (["check", "uc_merced"], "data.path is not set"),
        (["check", "uc_merced", "--path", "/none"], "there is no folder /none"),
        (["prepare", "optimal31", "--from", "/none", "--to", "out"], "there is no folder /none"),
        (["list", "--path", "/none"], "there is no folder /none"),
        (["split", "data=folder"], "data.path is not set"),
        (["split", "sed=1"], "sed is not a key"),
    ],
)
def test_a_mistake_is_one_line_and_status_1(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDRSCLIP_DATA_PATH", raising=False)
    assert main(["data", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"fedrsclip: {sentence}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [[], ["lst"], ["list", "seed=1"], ["check", "uc_merced", "--sed", "1"]]
)
def test_what_is_not_understood_is_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", *words])
    assert ended.value.code == 2
    assert "usage: fedrsclip data" in capsys.readouterr().err
