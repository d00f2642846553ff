"""What a node must have."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedrsclip.ray_cluster import at_node
from fedrsclip.ray_cluster.at_node import Expected, expected_in, problem_here, software
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.runs import lock

pytestmark = pytest.mark.unit


@pytest.fixture
def expected(tmp_path: Path) -> Iterator[Expected]:
    with lock.hold(tmp_path):
        yield Expected.in_held(tmp_path)


def test_a_node_like_this_one_has_no_problem(expected: Expected) -> None:
    assert problem_here(expected) == ""
    assert problem_here(expected, [to_json(compose(["method=promptfl"]))]) == ""


def test_what_a_node_lacks_is_a_sentence(
    expected: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problem(**changed: Any) -> str:
        return problem_here(replace(expected, **changed))

    assert "another version of this code" in problem(software=expected.software | {"code": "x"})
    found = problem(software=expected.software | {"torch": "1.0"})
    assert found.startswith("it has torch ") and "here it is 1.0" in found
    assert f"it does not see {tmp_path}: FEDRSCLIP_HOME" in problem(token="of another folder")
    assert "it does not see /nowhere" in problem(token_file="/nowhere/.shared")
    monkeypatch.setattr(at_node.os, "access", lambda *_: False)
    assert problem().startswith(f"it may not write to {tmp_path}: ")


def test_clip_and_images_are_looked_for_where_the_environment_says(
    expected: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nowhere"
    images = to_json(compose(["data=folder", "partition=uniform", "model=demo_clip"]))
    monkeypatch.setenv(SITE_KEYS["data.path"].variable, str(nowhere))
    assert problem_here(expected, [images]) == f"there are no images at {nowhere}"
    monkeypatch.setenv(SITE_KEYS["data.path"].variable, "")
    assert problem_here(expected, [images]) == ""
    monkeypatch.setenv(SITE_KEYS["model.path"].variable, str(nowhere))
    assert str(nowhere) in problem_here(expected, [to_json(compose(["model=local"]))])


def test_a_disk_whose_locks_stay_on_one_machine_is_refused(tmp_path: Path) -> None:
    unlocked = Expected.in_held(tmp_path)
    assert problem_here(unlocked).startswith(f"it does not see who has locked {tmp_path}: ")


def test_of_the_question_nothing_stays_in_the_home(tmp_path: Path) -> None:
    with expected_in(tmp_path) as expected:
        assert problem_here(expected) == "" and expected.software == software()
    assert not list(tmp_path.iterdir())
