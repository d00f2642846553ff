"""Data sets of the ``datasets`` library in many forms."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from fedrsclip_core.data.hub.spec import HubSpec
from tests.unit.data.helpers import save_image

NAMES = ["river", "beach", "lake"]
COMMITS = ["a" * 40, "b" * 40]


def make_rows(
    folder: Path, labels: list[Any], label_feature: object = None, seed: int = 0
) -> datasets.Dataset:
    """Return rows with images of files in a folder."""
    files = []
    for i in range(len(labels)):
        files.append(str(folder / f"{seed}-{i}.png"))
        save_image(Path(files[-1]), seed=1000 * seed + i)
    features = datasets.Features(
        {"image": datasets.Image(), "label": label_feature or datasets.ClassLabel(names=NAMES)}
    )
    return datasets.Dataset.from_dict({"image": files, "label": labels}, features=features)


def save_columns(
    folder: Path, columns: Mapping[str, Any], features: dict[str, Any] | None = None
) -> HubSpec:
    """Save a data set of these columns; of ``features`` only those that the library cannot see."""
    rows = datasets.Dataset.from_dict(columns)
    for name, feature in (features or {}).items():
        rows = rows.cast_column(name, feature)
    rows.save_to_disk(folder)
    return spec_of(folder)


def save_splits(folder: Path, counts: dict[str, int]) -> HubSpec:
    """Save a data set of these splits, all their images different."""
    splits = {
        name: make_rows(folder / "png", [i % 3 for i in range(count)], seed=seed)
        for seed, (name, count) in enumerate(counts.items())
    }
    datasets.DatasetDict(splits).save_to_disk(folder / "saved")
    return spec_of(folder / "saved")


def spec_of(path: Path, **options: Any) -> HubSpec:
    """Name a local data set."""
    return HubSpec(path=path, **options)


def png(seed: int = 0) -> bytes:
    """Return a noise image as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def cache_hub_copy(rows: datasets.Dataset, folder: Path, commit: str) -> None:
    """Put rows where the library keeps a data set that it has loaded from the hub."""
    place = folder / "hf-cache" / "owner___scenes" / "default" / "0.0.0" / commit
    rows.info.config_name, rows.info.builder_name = "default", "parquet"
    rows.info.splits = {"train": {"name": "train", "num_examples": len(rows)}}
    place.mkdir(parents=True)
    rows.info.write_to_directory(str(place))
    with datasets.arrow_writer.ArrowWriter(path=str(place / "scenes-train.arrow")) as writer:
        writer.write_table(rows.data.table)
