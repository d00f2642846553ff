"""What outlives a run: the shared prompt with all one needs to use it, and the last round."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from fedrsclip_core import fileio
from fedrsclip_core.prompts import SHARED_PROMPT_FORMAT
from fedrsclip_core.records import SHARED_PROMPT
from server_app.labels import class_names, class_words
from server_app.results import RunState


def write_shared_prompt(path: Path, state: RunState) -> None:
    """Write the shared prompt ``(n_ctx, width)``; its metadata is enough to predict with it."""
    if state.shared is None:
        return
    config = state.config
    metadata = {
        "format": SHARED_PROMPT_FORMAT,
        "class_names": json.dumps(class_names(config.data)),
        "words": json.dumps(class_words(config.data)),
        "model": config.model.name,
        "hub_id": config.model.hub_id or "",
        "revision": config.model.revision or "",
        "clip": state.digests()["clip"] or "",
        "n_ctx": str(config.prompt.n_ctx),
        "template": config.prompt.template,
        "run": state.run_name,
        "round": str(state.server_round),
    }
    shared = np.ascontiguousarray(state.shared)
    fileio.write_bytes(path, save({SHARED_PROMPT: shared}, metadata=metadata))


def write_checkpoint(folder: Path, state: RunState) -> None:
    """Write the state after a round.

    ``state.json`` names the prompt file that belongs to it and is replaced last, so that the two
    fit together whenever the server stops.
    """
    name = f"shared_prompt-{state.server_round:05d}.safetensors"
    write_shared_prompt(folder / name, state)
    value: dict[str, Any] = {
        "run": state.run_name,
        "round": state.server_round,
        "shared_prompt": name if state.shared is not None else None,
        "digests": state.digests(),
        "history": state.records,
    }
    fileio.write_json(folder / "state.json", value)
    for old in folder.glob("shared_prompt-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)
