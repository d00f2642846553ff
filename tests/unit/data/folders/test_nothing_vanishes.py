"""Whatever a tree of folders looks like: it is refused, or each image in it is accounted for."""

import random
from pathlib import Path

import pytest

from fedrsclip_core.data.folders.layouts import part_of
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit

LEVELS = {
    "parts": ("train", "Validation", "test_set"),
    "clients": ("client_0", "client_1"),
    "wrapper": ("Images",),
    "class": ("beach",),
    "years": ("2019", "2020"),
}
NAMES = ("train", "test", "client_0", "beach", "lake", "Images", "2019", "docs", "__MACOSX")
FILES = ("a.png", "b.TIF", "c.npy", "d.txt", "Thumbs.db")
IMAGES = FILES[:2]


def make_tree(root: Path, draw: random.Random) -> None:
    """Make a tree of a layout that may be understood, and put something odd into some."""
    kinds = draw.sample(sorted(LEVELS), draw.randint(0, 3))
    folders = [root]
    for names in (*(LEVELS[kind] for kind in kinds), ("beach", "lake"), *draw.choice(((), ("s",)))):
        names = (names,) if isinstance(names, str) else names
        folders = [folder / name for folder in folders for name in names]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in IMAGES:
            (folder / name).write_bytes(b"x")
    for _ in range(draw.choice((0, 0, 1, 2))):
        places = [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]
        odd = draw.choice(places) / draw.choice(NAMES)
        odd.mkdir(exist_ok=True)
        (draw.choice((odd, odd.parent)) / draw.choice(FILES)).write_bytes(b"x")


@pytest.mark.parametrize("classes", [(), ("beach", "lake")])
def test_each_image_of_a_random_tree_is_read_or_named(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    accepted = 0
    for seed in range(300):
        root = tmp_path / str(seed)
        root.mkdir()
        make_tree(root, random.Random(seed))
        try:
            source = FolderSource(root, classes)
        except DataError:
            continue
        accepted += 1
        read = [source.describe(i) for i in range(len(source))]
        named = [name for name, _ in source.left_out]
        assert sorted(read + [name for name in named if name.endswith(IMAGES)]) == sorted(
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.name in IMAGES and "__MACOSX" not in path.parts
        ), seed
        parts = source.given_parts
        for i, name in enumerate(read):
            folders = Path(name).parts[:-1]
            assert source.class_names[source.labels[i]] in folders, seed
            said = {part_of(folder) for folder in folders} - {None}
            assert said <= {0 if parts is None else int(parts[i])}, seed
        again = FolderSource(root, source.class_names)
        assert again.labels.tolist() == source.labels.tolist(), seed
        assert [again.describe(i) for i in range(len(again))] == read, seed
    assert accepted > 100
