"""The demo's scenes as images in class folders, as people have their own."""

from pathlib import Path

from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError
from fedrsclip_core.runs.fileio import whole_folder

_DOMAINS = 4
"""Seasons, sensors, haze and resolutions that are mixed: those of the demo's four clients."""


def write_images(folder: Path, images: int, seed: int) -> int:
    """Write ``<folder>/<class>/<number>.png``, ``images`` of each class; return how many.

    Raises
    ------
    DataError
        If the folder is there.
    """
    from PIL import Image

    if folder.exists():
        raise DataError(f"{folder} is there already: choose another name, or remove it")
    with whole_folder(folder) as staged:
        for number, name in enumerate(CLASS_NAMES):
            (staged / name).mkdir()
            for k in range(images):
                scene = render(number, k, seed=seed, domain=k % _DOMAINS)
                Image.fromarray(scene).save(staged / name / f"{k:04}.png")
    return len(CLASS_NAMES) * images
