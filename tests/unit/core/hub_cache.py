"""A HuggingFace cache on disk, as after downloads on two days."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from tests.tiny_clip import make_tiny_clip

OLD, NEW = "a" * 40, "b" * 40


def cache_hub_model(folder: Path, monkeypatch: pytest.MonkeyPatch, *, newest: str) -> None:
    """Put two commits of ``owner/clip`` into a cache of this test, out of the hub's reach."""
    cache = folder / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model = cache / "models--owner--clip"
    for seed, commit in enumerate((OLD, NEW)):
        make_tiny_clip(model / "snapshots" / commit, seed=seed)
    move_newest(folder, newest)


def move_newest(folder: Path, commit: str) -> None:
    """Make ``commit`` what the hub calls newest."""
    refs = folder / "hub" / "models--owner--clip" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(commit)
