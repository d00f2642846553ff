import os
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from fedrsclip.data.specs import DatasetSpec


def save_image(path: Path, seed: int = 0, mode: str = "RGB") -> None:
    """Save a noise image whose bytes depend on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def make_folder(root: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    """Make ``<root>/<class>/<class><nn>`` images, all different."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            save_image(root / name / f"{name}{i:02d}{suffix}", seed=crc32(name.encode()) + i)
    return root


def small_spec(**values: object) -> DatasetSpec:
    """A data set of two classes with four images each."""
    known: dict[str, object] = {
        "name": "small",
        "title": "Small",
        "images_per_class": 4,
        "class_names": ("golf_course", "lake"),
        "licence": "not stated",
        "archive": "Small/Images",
        "citation": {"author": "A", "title": "T", "journal": "J", "year": "2000"},
    }
    known |= values
    if isinstance(known["images_per_class"], int):
        names = known["class_names"]
        known["images_per_class"] = dict.fromkeys(names, known["images_per_class"])  # type: ignore[call-overload]
    return DatasetSpec(**known)  # type: ignore[arg-type]


def shared_data(name: str) -> Path:
    """A real data set below ``$FEDRSCLIP_TEST_SHARED/data``; the test is skipped without."""
    folder = Path(os.environ.get("FEDRSCLIP_TEST_SHARED", "/nowhere")) / "data" / name
    if not folder.is_dir():
        pytest.skip(f"FEDRSCLIP_TEST_SHARED names no folder with data/{name}")
    return folder
