"""What Flower is told of a run."""

import tomllib
from pathlib import Path

import pytest

from fedrsclip.run import superlink
from fedrsclip_core.config.compose import OVERRIDES_KEY, from_run_config
from fedrsclip_core.config.overrides import join_overrides, quote

pytestmark = pytest.mark.unit

_FLWR = """#!/bin/sh
cp "$5" "$0.submitted"
echo '{"run-id": "7"}'
"""


def test_a_run_configuration_is_toml_whatever_a_class_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flwr = tmp_path / "flwr"
    flwr.write_text(_FLWR)
    flwr.chmod(0o755)
    monkeypatch.setattr(superlink.machine, "program", lambda name: str(flwr))
    name = "plage \U0001f3d6 'à \\ gauche\""
    overrides = join_overrides([f"data.class_names=[{quote(name)},b]"])
    (tmp_path / "link").mkdir()
    link = superlink.SuperLink(tmp_path / "link", {})
    assert link.submit(tmp_path / "app", {OVERRIDES_KEY: overrides}, "") == "7"
    submitted = tomllib.loads((tmp_path / "flwr.submitted").read_text(encoding="utf-8"))
    assert from_run_config(submitted).data.class_names == [name, "b"]
