"""From base to new classes: which are which, and what is measured."""

from pathlib import Path

import pytest

from fedrsclip.bench.base_to_new import link_classes, split_classes, with_harmonic

pytestmark = pytest.mark.unit


def test_base_is_the_first_half_of_the_sorted_names() -> None:
    assert split_classes(["d", "a", "c", "b"]) == (["a", "b"], ["c", "d"])
    assert split_classes(["c", "b", "a"]) == (["a", "b"], ["c"])


def test_harmonic_mean() -> None:
    results = {"zero_shot": {"test": 0.5}, "last": {"test": {"global": 0.6}}}
    row = with_harmonic({"zero_shot": 0.25, "global": 0.3}, results)
    assert row["harmonic_zero_shot"] == pytest.approx(100 / 3)
    assert (row["new_global"], row["harmonic_global"]) == (30, pytest.approx(40))


def test_a_mode_that_is_not_there_stays_empty() -> None:
    results = {"zero_shot": {"test": 0.0}, "last": {"test": {"global": None}}}
    row = with_harmonic({"zero_shot": 0.0}, results)
    assert row["harmonic_zero_shot"] == 0
    assert row["new_global"] is row["harmonic_global"] is None


@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_links_show_the_wanted_classes_only(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root, target = tmp_path / "images", tmp_path / "base"
    for part in parts:
        for name in ("beach", "lake", "river"):
            (root / part / name).mkdir(parents=True)
            (root / part / name / "1.png").write_bytes(b"x")
    for _ in range(2):
        link_classes(root, target, ["beach", "lake"])
    found = sorted(p.relative_to(target).as_posix() for p in target.glob("**/*/1.png"))
    wanted = [f"{part}/{name}/1.png".lstrip("/") for part in parts for name in ("beach", "lake")]
    assert found == sorted(wanted)
    other = tmp_path / "other"
    for part in parts:
        (other / part / "beach").mkdir(parents=True)
    link_classes(other, target, ["beach"])
    assert (target / parts[0] / "beach").resolve() == other / parts[0] / "beach"
