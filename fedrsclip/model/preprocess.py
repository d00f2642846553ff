"""How the images of a converted CLIP are prepared."""

from collections.abc import Mapping
from typing import Any

from fedrsclip.model.source import OPENCLIP_CONFIG, Source
from fedrsclip_core.errors import ModelError

_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]
_RESAMPLE = {"bicubic": 3, "bilinear": 2}  # Pillow's numbers
_KEYS = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}


def preprocessing(source: Source, image_size: int) -> tuple[dict[str, Any], str]:
    """Return transformers' settings for images of ``image_size`` pixels, and whence they are.

    Raises
    ------
    ModelError
        If the model wants what transformers' image processor of CLIP does not do.
    """
    said = (source.openclip or {}).get("preprocess_cfg") or {}
    where = source.folder / OPENCLIP_CONFIG
    if not isinstance(said, Mapping) or said.keys() - _KEYS:
        raise ModelError(f"{where} has a preprocess_cfg that is not understood: {said!r:.80}")
    resample = _RESAMPLE.get(str(said.get("interpolation", "bicubic")))
    mode = said.get("resize_mode", "shortest")
    square = {"height": image_size, "width": image_size}
    if resample is None or mode not in ("shortest", "squash"):
        raise ModelError(
            f"{where} wants images resized by interpolation={said.get('interpolation')}, "
            f"resize_mode={mode}, which transformers' image processor of CLIP does not do: this "
            "model cannot be converted"
        )
    if said.get("size", image_size) not in (image_size, [image_size] * 2):
        raise ModelError(
            f"{where} wants images of {said['size']!r:.40} pixels but the weights are for "
            f"{image_size}: they are not of one model"
        )
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": square if mode == "squash" else {"shortest_edge": image_size},
        "resample": resample,
        "do_center_crop": mode == "shortest",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(said.get("mean", _MEAN)),
        "image_std": list(said.get("std", _STD)),
        "do_convert_rgb": True,
    }
    return (
        settings,
        "as its configuration says" if said else "OpenAI's, for the source says nothing",
    )
