from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image


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
