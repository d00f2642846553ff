"""The demo CLIP that comes with the package.

Inside a Flower run this module is the submitted app's copy, and an app carries no weights; the
installed package further down ``sys.path`` does.
"""

import sys
from functools import lru_cache
from pathlib import Path

from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs.fileio import sha256_of_file

_FOLDER = Path("fedrsclip_core") / "assets" / "demo_clip"
_WEIGHTS_SHA256 = "2ff2dc31be08daa20597c48886f4d128bf51da3cf45c41508eb5005262b3f39f"


@lru_cache(maxsize=1)
def demo_clip_folder() -> Path:
    """Return the folder of the packaged demo CLIP.

    Raises
    ------
    ModelError
        If no entry of ``sys.path`` has it, or only with other weights than this code expects.
    """
    here = str(Path(__file__).resolve().parents[2])
    stale = None
    for entry in [*sys.path, here]:
        folder = Path(entry or ".").resolve() / _FOLDER
        weights = folder / "model.safetensors"
        if not weights.is_file():
            continue
        if sha256_of_file(weights) == _WEIGHTS_SHA256:
            return folder
        stale = folder
    if stale is not None:
        raise ModelError(
            f"the demo CLIP in {stale} is not the one that this version expects: "
            "reinstall the package with pip"
        )
    raise ModelError(
        "the demo CLIP is not installed: install the package with pip in the Python that runs "
        "Flower, or give model.path a folder with a CLIP"
    )
