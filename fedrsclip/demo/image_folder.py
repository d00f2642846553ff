"""The demo's scenes as images in class folders, as people have their own."""

import shutil
import tempfile
from pathlib import Path

from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for number, name in enumerate(CLASS_NAMES):
            (temporary / name).mkdir()
            for k in range(images):
                scene = render(number, k, seed=seed, domain=k % _DOMAINS)
                Image.fromarray(scene).save(temporary / name / f"{k:04}.png")
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return len(CLASS_NAMES) * images
