"""No test touches the user's own home."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path / "fedrsclip-home"))
