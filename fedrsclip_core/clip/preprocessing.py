"""How a CLIP wants its images: the settings that count, however a file writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrsclip_core.clip.folder_files import read_object
from fedrsclip_core.errors import ModelError

FILES = ("processor_config.json", "preprocessor_config.json")
"""Where transformers 5 and older ones write the settings; the first wins, as there."""

_TYPES = (
    *("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"),
    "CLIPFeatureExtractor",
)
_SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
"""Without ``do_convert_rgb``: the images that are prepared here are RGB."""
_RESAMPLE = range(6)  # Pillow's filters
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_SWITCHES, True),
    "size": {"shortest_edge": 224},
    "resample": 3,
    "crop_size": {"height": 224, "width": 224},
    "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""Those of transformers' ``CLIPImageProcessor``, for what a file leaves out."""
_NEEDED_BY = {
    "do_resize": ("size", "resample"),
    "do_center_crop": ("crop_size",),
    "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"),
}
_FORMS = (("shortest_edge",), ("height", "width"))
"""Of ``size``; a crop has the second only."""
_LARGEST_SIDE = 100_000


def read_preprocessing(folder: Path) -> dict[str, Any]:
    """Return the settings of a model folder in their normal form.

    Two folders whose images are prepared alike have equal ones: ``size: 224`` is
    ``{"shortest_edge": 224}``, what is left out has its default, what is switched off is absent.

    Raises
    ------
    ModelError
        If there are none, if they are not a CLIP's, or if two files disagree.
    """
    found = {}
    for name in FILES:
        try:
            held = read_object(folder / name)
        except FileNotFoundError:
            continue
        # Older transformers wrote the first without settings of images.
        settings = held.get("image_processor") if name == FILES[0] else held
        if settings is not None:
            found[name] = _normal(folder / name, settings)
    if not found:
        raise ModelError(
            f"model folder {folder} does not say how images are prepared: save the model's "
            "CLIPImageProcessor there too (preprocessor_config.json, or processor_config.json with "
            f"an image_processor); where they are as OpenAI's, `fedrsclip model convert {folder} "
            "out=<folder>` makes a copy that says so"
        )
    if len(found) == 2 and found[FILES[0]] != found[FILES[1]]:
        raise ModelError(
            f"{FILES[0]} and {FILES[1]} in {folder} prepare images differently: remove the wrong "
            "one (transformers 5 reads the first)"
        )
    return next(iter(found.values()))


def check_image_size(folder: Path, settings: Mapping[str, Any], image_size: int) -> None:
    """Refuse settings whose images the image tower cannot take.

    Parameters
    ----------
    folder : Path
        Whose settings they are, for the message.
    settings : Mapping[str, Any]
        In their normal form.
    image_size : int
        The side of the images that the tower takes, in pixels.

    Raises
    ------
    ModelError
        If they make other images.
    """
    sides = settings.get("crop_size") or settings.get("size") or {}
    if any(side != image_size for side in sides.values()):
        made = " x ".join(str(side) for side in sides.values())
        raise ModelError(
            f"the image preprocessing in {folder} makes images of {made} pixels, but the image "
            f"tower takes {image_size} x {image_size} (vision_config.image_size): the files are "
            "not of one CLIP"
        )


def _normal(file: Path, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ModelError(f"{file} has no settings in its image_processor: copy it again")
    kind = given.get("image_processor_type") or given.get("feature_extractor_type")
    if kind not in (None, *_TYPES):
        raise ModelError(
            f"{file} is for a {str(kind)[:60]}, not for CLIP's images: save the model's "
            "CLIPImageProcessor there"
        )
    chosen = {
        name: default if given.get(name) is None else given[name]
        for name, default in _DEFAULTS.items()
    }
    for name in ("do_pad", "use_square_size"):
        if given.get(name):
            raise _unusable(file, name)
    for name in _SWITCHES:
        if type(chosen[name]) is not bool:
            raise _unusable(file, name)
    unused = {one for switch, names in _NEEDED_BY.items() if not chosen[switch] for one in names}
    for name in chosen.keys() - unused - set(_SWITCHES):
        value = _value(name, chosen[name])
        if value is None:
            raise _unusable(file, name)
        chosen[name] = value
    return {name: chosen[name] for name in sorted(chosen.keys() - unused)}


def _value(name: str, value: Any) -> Any:
    """Return a setting's normal form, ``None`` if it cannot be one."""
    if name in ("size", "crop_size"):
        return _sides(name, value)
    if name == "resample":
        return value if type(value) is int and value in _RESAMPLE else None
    if name == "rescale_factor":
        return float(value) if _is_positive(value) else None
    numbers = [value] * 3 if _is_number(value) else value
    if not isinstance(numbers, list) or len(numbers) != 3 or not all(map(_is_number, numbers)):
        return None
    if name == "image_std" and not all(map(_is_positive, numbers)):
        return None
    return [float(number) for number in numbers]


def _sides(name: str, value: Any) -> dict[str, int] | None:
    if type(value) is int:
        value = {"shortest_edge": value} if name == "size" else {"height": value, "width": value}
    if isinstance(value, list) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if not isinstance(value, dict):
        return None
    sides = {key: side for key, side in sorted(value.items()) if side is not None}
    forms = _FORMS if name == "size" else _FORMS[1:]
    usable = all(type(side) is int and 0 < side <= _LARGEST_SIDE for side in sides.values())
    return sides if tuple(sides) in forms and usable else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _unusable(file: Path, name: str) -> ModelError:
    return ModelError(
        f"{file} has a value of {name} that cannot be used for a CLIP's images: correct it, or "
        "copy the file again"
    )
