"""How folders may be laid out, and what is refused because it can be read in two ways."""

from collections import Counter
from pathlib import Path

import pytest

from fedrsclip_core.data.folders.layouts import in_number_order, part_of
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.errors import DataError
from tests.unit.data.helpers import save_image

pytestmark = pytest.mark.unit

CLASSES = ("beach", "lake", "river")


def tree(root: Path, *folders: str, images: int = 2) -> Path:
    """Make folders with images; a name in braces stands for each of the classes."""
    for folder in folders:
        for name in CLASSES if "{}" in folder else ("",):
            for i in range(images):
                save_image(root / folder.format(name) / f"{i}.png", i)
    return root


def classes(source: FolderSource) -> dict[str, int]:
    return dict(Counter(source.class_names[label] for label in source.labels))


def parts(source: FolderSource) -> dict[int, int]:
    return {} if source.given_parts is None else dict(Counter(source.given_parts.tolist()))


LAYOUTS = {
    "<class>/<image>": ("{}",),
    "a/<class>/<image>": ("a/{}",),
    "UCMerced_LandUse/Images/<class>/<image>": ("UCMerced_LandUse/Images/{}",),
    "a/b/c/d/<class>/<image>": ("a/b/c/d/{}",),
    "<class>/.../<image>": ("{}/sub",),
    "2750/<class>/<image>": ("2750/{}",),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrappers_and_folders_in_classes(tmp_path: Path, layout: str) -> None:
    source = FolderSource(tree(tmp_path, *LAYOUTS[layout]))
    assert source.layout == layout
    assert classes(source) == dict.fromkeys(CLASSES, 2)
    assert source.given_parts is None
    assert source.clients is None


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("train", "valid", "test"),
        ("train", "validation", "test"),
        ("Training", "Validation", "TESTING"),
        ("train_set", "val_set", "test_set"),
        ("TrainSet", "val-set", "test set"),
        ("EuroSAT/train", "EuroSAT/val", "EuroSAT/test"),
    ],
)
def test_parts(tmp_path: Path, train: str, val: str, test: str) -> None:
    tree(tmp_path, f"{train}/{{}}", images=4)
    tree(tmp_path, f"{val}/{{}}", images=1)
    tree(tmp_path, f"{test}/{{}}", images=2)
    source = FolderSource(tmp_path)
    assert source.class_names == list(CLASSES)
    assert parts(source) == {0: 12, 1: 3, 2: 6}
    assert [source.describe(i).split("/")[-3] for i in (0, 4, 5)] == [
        Path(word).name for word in (train, val, test)
    ]


@pytest.mark.parametrize("found", [{0: 6, 1: 6}, {0: 6, 2: 6}])
def test_two_parts_are_enough(tmp_path: Path, found: dict[int, int]) -> None:
    words = {0: "train", 1: "val", 2: "test"}
    tree(tmp_path, *(f"{words[part]}/{{}}" for part in found))
    assert parts(FolderSource(tmp_path)) == found


def test_a_part_may_have_a_wrapper_of_its_name(tmp_path: Path) -> None:
    source = FolderSource(tree(tmp_path, "train/train/{}", "test/test/{}"))
    assert parts(source) == {0: 6, 2: 6}


def test_clients_and_a_common_test_set(tmp_path: Path) -> None:
    tree(tmp_path, *(f"train_set/client_{k}/{{}}" for k in (0, 2, 10)), "test_set/{}")
    source = FolderSource(tmp_path)
    assert source.client_names == ["client_0", "client_2", "client_10"]
    assert source.clients is not None
    assert Counter(source.clients.tolist()) == {0: 6, 1: 6, 2: 6, -1: 6}
    of_test = source.clients < 0
    assert source.given_parts is not None
    assert ((source.given_parts == 2) == of_test).all()
    assert source.layout == "test_set/<class>/<image>, train_set/<client>/<class>/<image>"


@pytest.mark.parametrize("word", ["client_{}", "Client {}", "site{}", "silo-{}", "institution_{}"])
@pytest.mark.parametrize("below", ["{}/{{}}", "{}/train/{{}}", "data/{}/{{}}"])
def test_folders_of_clients_are_known_by_their_names(tmp_path: Path, word: str, below: str) -> None:
    names = [word.format(k) for k in range(2)]
    source = FolderSource(tree(tmp_path, *(below.format(name) for name in names)))
    assert source.client_names == names
    assert source.class_names == list(CLASSES)


def test_clients_may_have_any_name_if_folders_are_said_to_be_clients(tmp_path: Path) -> None:
    tree(tmp_path, "north/{}", "south/{}")
    with pytest.raises(DataError, match=r"north, south with folders .*partition=given"):
        FolderSource(tmp_path)
    assert FolderSource(tmp_path, by_client=True).client_names == ["north", "south"]
    # Not where there are only classes.
    assert FolderSource(tmp_path / "north", by_client=True).clients is None


def test_folders_that_count_are_no_classes(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{name}/{year}" for name in CLASSES for year in (2019, 2020)))
    source = FolderSource(tmp_path)
    assert classes(source) == dict.fromkeys(CLASSES, 4)
    assert source.name(0) == "beach/2019/0"


@pytest.mark.parametrize("names", [(), CLASSES])
def test_parts_in_class_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree(tmp_path, "{}/train", images=3)
    tree(tmp_path, "{}/Val/2020", "{}/test")
    source = FolderSource(tmp_path, names)
    assert source.class_names == list(CLASSES)
    assert parts(source) == {0: 9, 1: 6, 2: 6}


@pytest.mark.parametrize(
    "folders",
    [("{}/train", "{}/test", "{}/extra"), ("{}", "{}/test"), ("train/{}/train", "train/{}/test")],
)
def test_parts_in_class_folders_are_all_that_there_is(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match="which images are for training"):
        FolderSource(tree(tmp_path, *folders), CLASSES)


def test_a_class_may_have_images_of_its_own_and_in_folders(tmp_path: Path) -> None:
    source = FolderSource(tree(tmp_path, "{}", "lake/more"))
    assert classes(source) == {"beach": 2, "lake": 4, "river": 2}


@pytest.mark.parametrize(
    ("folders", "seen"),
    [
        (("fold1/{}", "fold2/{}"), ["fold1, fold2", "beach, lake, river", "one of them"]),
        (("original/{}", "augmented/{}"), ["augmented, original", "one of them"]),
        (("urban/houses", "urban/roads", "nature/lake"), ["nature, urban", "lake, houses, roads"]),
        (("Images/{}", "preview"), ["Images, beside preview", "beach, lake, river"]),
        (("beach", "lake/deep"), ["lake, beside beach", "(deep)"]),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, folders: tuple[str, ...], seen: list[str]
) -> None:
    with pytest.raises(DataError, match=r"data\.class_names") as refused:
        FolderSource(tree(tmp_path, *folders))
    for words in seen:
        assert words in str(refused.value)


def test_the_names_of_the_classes_decide(tmp_path: Path) -> None:
    tree(tmp_path, "urban/houses", "urban/roads", "nature/lake")
    assert classes(FolderSource(tmp_path, ["urban", "nature"])) == {"nature": 2, "urban": 4}
    inner = FolderSource(tmp_path, ["lake", "houses", "roads"])
    assert classes(inner) == {"lake": 2, "houses": 2, "roads": 2}
    with pytest.raises(DataError, match="no class 'urban'"):
        FolderSource(tmp_path, ["nature"])


def test_a_wrapper_may_be_called_as_a_class(tmp_path: Path) -> None:
    tree(tmp_path, "beach/{}")
    assert classes(FolderSource(tmp_path, CLASSES)) == dict.fromkeys(CLASSES, 2)
    assert classes(FolderSource(tmp_path)) == dict.fromkeys(CLASSES, 2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    tree(tmp_path, "car", "plane", "train")
    with pytest.raises(DataError, match=r"if train is a class, name all classes"):
        FolderSource(tmp_path)
    assert len(FolderSource(tmp_path, ["car", "plane", "train"])) == 6


@pytest.mark.parametrize(
    ("folders", "seen"),
    [
        (("train/{}", "val/{}", "validation/{}"), "both val and validation"),
        (("train/{}", "test/{}", "extra/{}"), "beside it extra"),
        (("train/train/{}", "train/test/{}"), "one level of such folders"),
    ],
)
def test_parts_that_contradict_each_other(
    tmp_path: Path, folders: tuple[str, ...], seen: str
) -> None:
    with pytest.raises(DataError, match=seen):
        FolderSource(tree(tmp_path, *folders))


@pytest.mark.parametrize("beside", ["docs/paper.pdf", "readme.txt", "annotations/labels.csv"])
@pytest.mark.parametrize("below", ["Images/{}", "train/{}"])
def test_documents_beside_change_nothing(tmp_path: Path, beside: str, below: str) -> None:
    tree(tmp_path, below)
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).write_text("words")
    source = FolderSource(tmp_path)
    assert classes(source) == dict.fromkeys(CLASSES, 2)
    assert source.left_out == []


def test_images_in_no_class_folder(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no class folders, but images \(a\.png\).*CSV list"):
        FolderSource(tmp_path)
    source = FolderSource(tree(tmp_path, "{}"))
    assert source.left_out == [("a.png", "lies in no class folder")]


@pytest.mark.parametrize(
    "folders",
    [
        *LAYOUTS.values(),
        ("train/{}", "test/{}"),
        ("beach/{}",),
        ("{}/2019", "{}/2020"),
        ("train_set/client_0/{}", "train_set/client_1/{}", "test_set/{}"),
    ],
)
def test_the_found_names_find_the_same_again(tmp_path: Path, folders: tuple[str, ...]) -> None:
    """A run finds the classes once; its clients are given their names."""
    first = FolderSource(tree(tmp_path, *folders))
    again = FolderSource(tmp_path, first.class_names)
    assert again.labels.tolist() == first.labels.tolist()
    assert parts(again) == parts(first)
    assert [again.describe(i) for i in range(len(again))] == [
        first.describe(i) for i in range(len(first))
    ]


def test_other_classes_can_be_ignored(tmp_path: Path) -> None:
    tree(tmp_path, "train/{}", "test/{}")
    with pytest.raises(DataError, match=r"data\.other_classes=ignore"):
        FolderSource(tmp_path, ["lake"])
    source = FolderSource(tmp_path, ["river", "lake"], ignore_others=True)
    assert classes(source) == {"river": 4, "lake": 4}
    assert source.ignored == ["beach"]
    assert source.left_out == []
    with pytest.raises(DataError, match=r"no image .*beach is no class of the federation"):
        FolderSource(tmp_path, ["desert"], ignore_others=True)


def test_names_are_compared_composed(tmp_path: Path) -> None:
    """A Mac writes decomposed names; a configuration, a list or another system composed ones."""
    decomposed, composed = "fore\u0302t", "for\u00eat"
    tree(tmp_path, decomposed, "lake")
    source = FolderSource(tmp_path)
    assert source.class_names == [composed, "lake"]
    for name in (composed, decomposed):
        found = FolderSource(tmp_path, ["lake", name], [[f"{name}/0", f"{name}/1"]])
        assert found.labels.tolist() == [0, 0, 1, 1]
        assert found.groups == [[2, 3]]
    aliased = FolderSource(tmp_path, ["forest", "lake"], class_aliases={composed: "forest"})
    assert aliased.labels.tolist() == [0, 0, 1, 1]
    tree(tmp_path, composed)
    with pytest.raises(DataError, match=r"two folders .*composed .*decomposed"):
        FolderSource(tmp_path)


@pytest.mark.parametrize("name", [b"w\xe4lder", b"la\nke", "la\u202eke".encode()])
def test_class_names_that_cannot_be_written(tmp_path: Path, name: bytes) -> None:
    tree(tmp_path, "{}")
    (tmp_path / "lake").rename(tmp_path / name.decode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"has a class '.*': give it a name in UTF-8"):
        FolderSource(tmp_path)


def test_a_file_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    tree(tmp_path, "{}")
    odd = b"\xe4.png".decode(errors="surrogateescape")
    (tmp_path / "lake" / "0.png").rename(tmp_path / "lake" / odd)
    source = FolderSource(tmp_path)
    assert source.image(3).mode == "RGB"
    assert source.describe(3) == f"lake/{odd}"


def test_words_and_numbers() -> None:
    assert [part_of(word) for word in ("Train", "val_set", "TEST SET", "dev")] == [0, 1, 2, None]
    assert in_number_order({"b10", "b9", "a", "10", "9"}) == ["9", "10", "a", "b9", "b10"]
