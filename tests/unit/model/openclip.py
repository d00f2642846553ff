"""Small models in OpenCLIP's form, made from the recorded shapes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.openclip_weights import weights
from tests.tiny_clip import tiny_tokenizer

FOLDER = Path(__file__).parents[2] / "fixtures" / "openclip"
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Recorded:
    """A model with what open_clip computed."""

    config: dict[str, Any]
    state: dict[str, torch.Tensor]
    image_features: NDArray[np.float32]
    text_features: NDArray[np.float32]


def recorded(name: str) -> Recorded:
    held = json.loads((FOLDER / f"{name}.json").read_text())
    state = {key: torch.from_numpy(value) for key, value in weights(held["shapes"]).items()}
    features = (np.array(held[f"{kind}_features"], np.float32) for kind in ("image", "text"))
    return Recorded(held["config"], state, *features)


def write_folder(folder: Path, one: Recorded, *, config: bool = True) -> Path:
    """Write it as OpenCLIP puts models on the hub, with a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(one.state, folder / "open_clip_pytorch_model.bin")
    if config:
        (folder / "open_clip_config.json").write_text(json.dumps(one.config))
    tiny_tokenizer().save_pretrained(folder)
    return folder
