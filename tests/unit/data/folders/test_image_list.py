"""Lists of images: what they may look like, and a sentence with the line for each mistake."""

from pathlib import Path

import pytest

from fedrsclip_core.data.folders.source import FolderSource, open_folder
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


def listed(root: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a list beside images of two classes in one folder tree."""
    make_folder(root / "img", {"beach": 3, "lake": 2})
    file = root / "list.csv"
    file.write_bytes(text.encode(encoding))
    return file


ROWS = "".join(
    f"img/{name}/{name}{i:02d}.png,{name}\n" for name, count in (("beach", 3), ("lake", 2))
    for i in range(count)
)  # fmt: skip


def test_a_list_is_as_its_folder(tmp_path: Path) -> None:
    source = FolderSource(listed(tmp_path, "path,label\n" + ROWS))
    folder = FolderSource(tmp_path / "img")
    assert source.class_names == folder.class_names
    assert source.labels.tolist() == folder.labels.tolist()
    assert [source.content_hash(i) for i in range(5)] == [folder.content_hash(i) for i in range(5)]
    assert [source.name(i) for i in range(5)] == [folder.name(i) for i in range(5)]
    assert source.describe(0) == "img/beach/beach00.png"
    assert source.layout == "list.csv (path, label)"


@pytest.mark.parametrize(
    ("header", "delimiter", "end", "encoding"),
    [
        ("path,label", ",", "\n", "utf-8-sig"),
        ("Path;Label", ";", "\r\n", "utf-8"),
        ("image_path\tClass Name", "\t", "\n", "utf-8"),
        ("FileName,class", ",", "\r\n", "utf-8"),
        ("file_name,label", ",", "\n", "utf-8"),
    ],
)
def test_forms_of_lists(
    tmp_path: Path, header: str, delimiter: str, end: str, encoding: str
) -> None:
    text = (header + "\n" + ROWS.replace(",", delimiter)).replace("\n", end)
    assert FolderSource(listed(tmp_path, text, encoding)).labels.tolist() == [0, 0, 0, 1, 1]


def test_labels_are_independent_of_folders(tmp_path: Path) -> None:
    text = 'id,label,path\n7,"golf, course",img/beach/beach01.png\n8,Lake,img/beach/beach00.png\n'
    source = FolderSource(listed(tmp_path, text))
    assert source.class_names == ["Lake", "golf, course"]
    assert [source.describe(i) for i in range(2)] == [
        "img/beach/beach00.png", "img/beach/beach01.png",
    ]  # fmt: skip


def test_splits_and_clients(tmp_path: Path) -> None:
    lines = ROWS.splitlines()
    words = ("train,b", "Validation,b", "TEST,", "training,a", "test,")
    rows = "\n".join(f"{line},{word}" for line, word in zip(lines, words, strict=True))
    source = FolderSource(listed(tmp_path, "path,label,split,client\n" + rows))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == [0, 1, 2, 0, 2]
    assert source.client_names == ["a", "b"]
    assert source.clients is not None
    assert source.clients.tolist() == [1, 1, -1, 0, -1]
    assert source.layout == "list.csv (path, label, split, client)"


@pytest.mark.parametrize(("split", "client"), [("Set", "Client ID"), ("subset", "site")])
def test_columns_of_splits_and_clients_have_several_names(
    tmp_path: Path, split: str, client: str
) -> None:
    rows = "\n".join(f"{line},test,n" for line in ROWS.splitlines())
    source = FolderSource(listed(tmp_path, f"path,label,{split},{client}\n{rows}"))
    assert source.given_parts is not None
    assert set(source.given_parts.tolist()) == {2}
    assert source.client_names == ["n"]
    with pytest.raises(DataError, match="the split 'fold 1'"):
        FolderSource(listed(tmp_path, f"path,label,{split}\n{ROWS.splitlines()[0]},fold 1"))


def test_a_file_of_a_list_may_have_any_suffix(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a")
    (tmp_path / "list.csv").write_text("path,label\n./a,beach\n")
    assert FolderSource(tmp_path / "list.csv").image(0).mode == "RGB"


def test_an_absent_image_is_left_out_with_its_line(tmp_path: Path) -> None:
    source = FolderSource(listed(tmp_path, f"path,label\n{ROWS}img/sea/a.png,lake\n"))
    assert len(source) == 5
    assert source.left_out == [("img/sea/a.png", "is not there, but in line 7 of the list")]


def test_paths_are_compared_composed(tmp_path: Path) -> None:
    save_image(tmp_path / "foe\u0302" / "e\u0301.png")
    for word in ("fo\u00ea/\u00e9", "foe\u0302/e\u0301", "fo\u00ea/e\u0301"):
        (tmp_path / "list.csv").write_text(f"path,label\n{word}.png,beach\n", encoding="utf-8")
        assert len(FolderSource(tmp_path / "list.csv")) == 1


def test_classes_of_a_list_that_the_federation_does_not_have(tmp_path: Path) -> None:
    file = listed(tmp_path, "path,label\n" + ROWS)
    with pytest.raises(DataError, match=r"no class 'beach', but .*list\.csv has it as a label"):
        FolderSource(file, ["lake"])
    source = FolderSource(file, ["lake"], ignore_others=True)
    assert (len(source), source.ignored) == (2, ["beach"])
    aliased = FolderSource(file, ["lake", "shore"], class_aliases={"beach": "shore"})
    assert aliased.labels.tolist() == [0, 0, 1, 1, 1]


def test_a_changed_list_is_read_again(tmp_path: Path) -> None:
    file = listed(tmp_path, "path,label\n" + ROWS)
    assert len(open_folder(file, (), (), {}, ())) == 5
    file.write_text("path,label\n" + ROWS.splitlines()[0])
    assert len(open_folder(file, (), (), {}, ())) == 1


FIRST = "path,label\nimg/beach/beach00.png,beach\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"line 1 of .* has no column path: .*it has nothing"),
        ("path,label\n", "no line but the first"),
        ("path,species\n", "line 1 of .* has no column label: .* it has path, species"),
        ("img/beach/beach00.png,beach\n", r"line 1 of .* has no column path"),
        ("path,label,class\n", "line 1 of .* has two columns for the label, 'label' and 'class'"),
        (FIRST + "img/lake/lake00.png\n", "line 3 of .* has 1 cells, fewer than line 1"),
        (FIRST + "img/lake/lake00.png,\n", "line 3 of .* has no label"),
        (FIRST + ",lake\n", "line 3 of .* has no path"),
        (FIRST + "\n\n/etc/a.png,lake\n", r"line 5 of .* path '/etc/a\.png': write it relative"),
        (FIRST + "../a.png,lake\n", "line 3 of .*: write it relative"),
        (FIRST + "C:\\a.png,lake\n", "line 3 of .*: write it relative"),
        (FIRST + "img\\a.png,lake\n", "line 3 of .*: write / between"),
        (FIRST + "img//beach/./beach00.png,lake\n", "line 3 of .*, which line 2 has already"),
        (FIRST + '"img/lake,lake\n', "line 3 of .* is no CSV"),
        ("path,label,split\na.png,beach,train\nb.png,lake,dev\n", "line 3 of .* the split 'dev'"),
        ("path,label,split\na.png,beach,\nb.png,lake,val\n", "line 2 of .* has no split, but"),
        (FIRST + "img/lake/lake00.png,la\0ke\n", "has a class 'la.x00ke'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        FolderSource(listed(tmp_path, text))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match="is not in UTF-8"):
        FolderSource(listed(tmp_path, FIRST + "img/w\u00e4.png,w\u00e4lder\n", encoding))


def test_a_list_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = listed(tmp_path, FIRST)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"list\.csv cannot be read \(Permission denied\)"):
        FolderSource(file)
