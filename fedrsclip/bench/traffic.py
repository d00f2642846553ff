"""Bytes until an accuracy is reached, beside those of sending adapters or all of CLIP.

Counted is what really crossed, up and down and evaluations included; the others are computed from
the model's configuration, once up and down per client and round for as many rounds.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description
from fedrsclip.bench.figures import Row
from fedrsclip.bench.results import Extras
from fedrsclip.bench.tables import STANDARD, Layout
from fedrsclip_core.clip.earlier import same_clip
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.config.overrides import split_site_overrides
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.errors import ModelError
from fedrsclip_core.runs.records import WAYS, Results, RoundRecord
from fedrsclip_core.runs.run_folder import RunFolder

_RANK = 8
_BYTES = 4  # float32
_VISION = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
_VISION |= {"patch_size": 32, "image_size": 224, "num_channels": 3}
_TEXT = {"hidden_size": 512, "num_hidden_layers": 12, "intermediate_size": 2048}
_TEXT |= {"vocab_size": 49408, "max_position_embeddings": 77}


def traffic_layout(accuracies: Sequence[float]) -> Layout:
    """Return the standard tables with three columns for each accuracy, in megabytes."""
    more = dict(STANDARD.more)
    for target in accuracies:
        for name in ("prompts", "lora", "clip"):
            more[f"MB to {target:g}, {name}"] = f"mb_to_{target:g}_{name}"
    return replace(STANDARD, more=more)


def traffic_extras(description: Description) -> Extras:
    """Return what makes these figures of a completed cell, and the others' bytes in a round."""

    def extras(cell: Cell, results: Results) -> Row:
        sizes = _sizes(description, cell, results)
        row: Row = {f"{name}_per_round": size * _BYTES for name, size in sizes.items()}
        if not description.bench.accuracies:
            return row
        records = RunFolder(cell.folder).rounds().read()
        for target in description.bench.accuracies:
            reached = bytes_to(records, target / 100)
            if reached is None or not reached[0]:
                continue
            exchanges, sent = reached
            row[f"mb_to_{target:g}_prompts"] = sent / 1e6
            for name, size in sizes.items():
                row[f"mb_to_{target:g}_{name}"] = 2 * exchanges * size * _BYTES / 1e6
        return row

    return extras


def _sizes(description: Description, cell: Cell, results: Results) -> dict[str, int]:
    """Return the numbers that others would send; none where the run's CLIP is not at hand."""
    about = RunFolder(cell.folder).description()
    if about is None:
        return {}
    config = about["config"]
    _, site = split_site_overrides(description.site)
    variable = SITE_KEYS["model.path"].variable
    path = site.get("model.path") or os.environ.get(variable) or None
    files = _clip(config["model.name"], config["model.hub_id"], config["model.revision"], path)
    if files is None or not same_clip(files, results["digests"]["clip"] or ""):
        return {}
    return {"lora": lora_parameters(files.config), "clip": clip_parameters(files.config)}


@cache
def _clip(
    name: str, hub_id: str | None, revision: str | None, path: str | None
) -> ClipFiles | None:
    try:
        return find_clip(ModelConfig(name, hub_id, revision), Path(path) if path else None)
    except ModelError:
        return None


def bytes_to(records: Sequence[RoundRecord], accuracy: float) -> tuple[int, int] | None:
    """Return the training exchanges and bytes until test accuracy is reached, ``None`` if never.

    It is the personalized one, over all classes, where there is one, else the global one. Rounds
    that only some clients evaluated do not count.
    """
    exchanges = sent = 0
    for record in records:
        exchanges += record["clients"]["asked"]
        sent += sum(record["bytes"][way]["message"] for way in WAYS)
        test = record["test"]
        if test is None or record["sampled"]:
            continue
        personalized = test["personalized"]
        found = personalized["mean"] if personalized else test["global"]
        if found is not None and found >= accuracy:
            return exchanges, sent
    return None


def lora_parameters(config: Mapping[str, Any]) -> int:
    """Numbers in rank-8 adapters of the query and value matrices of both towers."""
    towers = (_part(config, "vision_config", _VISION), _part(config, "text_config", _TEXT))
    return sum(t["num_hidden_layers"] * 2 * 2 * _RANK * t["hidden_size"] for t in towers)


def clip_parameters(config: Mapping[str, Any]) -> int:
    """Numbers in a whole CLIPModel."""
    vision = _part(config, "vision_config", _VISION)
    text = _part(config, "text_config", _TEXT)
    projection = int(config.get("projection_dim") or 512)
    width, patch = vision["hidden_size"], vision["patch_size"]
    patches = (vision["image_size"] // patch) ** 2
    image = vision["num_channels"] * patch**2 * width + (patches + 2) * width + 4 * width
    words = (text["vocab_size"] + text["max_position_embeddings"] + 2) * text["hidden_size"]
    projections = projection * (width + text["hidden_size"])
    return image + _layers(vision) + words + _layers(text) + projections + 1


def _layers(tower: Mapping[str, int]) -> int:
    """Numbers in a tower's layers: attention, two norms and the two matrices between."""
    width, inner = tower["hidden_size"], tower["intermediate_size"]
    attention, norms = 4 * (width * width + width), 4 * width
    return tower["num_hidden_layers"] * (attention + norms + 2 * width * inner + inner + width)


def _part(config: Mapping[str, Any], name: str, defaults: Mapping[str, int]) -> dict[str, int]:
    given = config.get(name) or {}
    return {key: int(given.get(key) or value) for key, value in defaults.items()}
