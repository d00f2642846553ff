"""Tuning: the best trial on validation images is recorded, and others build on it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedrsclip.bench import tune as tuning
from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description, describe
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures
from fedrsclip.bench.tables import Layout
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit

TINY = """
protocol: tune
settings: {uc_merced_uniform: [experiment=uc_merced_uniform]}
methods: [promptfl_ft, promptfl]
based_on: {promptfl_ft: promptfl}
trials:
  promptfl: [[optimizer.lr=0.1], [optimizer.lr=0.3], [optimizer.lr=0.5]]
  promptfl_ft: [[prompt.finetune_lr=0.1], [prompt.finetune_lr=0.2]]
seeds: [100, 101]
"""
SCORES = {"optimizer.lr=0.1": 40.0, "optimizer.lr=0.3": 44.0, "optimizer.lr=0.5": 44.0}


class FakeRunner:
    """Scores each cell by the trial's own override; ``ran`` are the names by call."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.ran: list[list[Cell]] = []
        self.lines: list[str] = []

    def echo(self, line: str) -> None:
        self.lines.append(line)

    def run(self, cells: Sequence[Cell], layout: Layout) -> tuple[list[Row], Failures]:
        assert layout is tuning.LAYOUT
        self.ran.append(list(cells))
        return [self._row(cell) for cell in cells], {}

    def _row(self, cell: Cell) -> Row:
        score = next((SCORES[text] for text in cell.overrides if text in SCORES), 0.0)
        fine = "prompt.finetune_lr=0.2" in cell.overrides
        names = {"setting": cell.setting, "method": cell.method, "variant": cell.variant}
        seed = cell.seed - 100.5
        return names | {"val_global": score + seed, "val_personalized": 70.0 + fine + seed}


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning, "_file", lambda e, m: tmp_path / f"{e}-{m}.yaml")
    return tmp_path


def runner(tmp_path: Path, *more: str) -> FakeRunner:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return FakeRunner(describe([f"bench={tmp_path / 'tiny.yaml'}", *more]))


def test_the_best_trial_is_recorded_and_built_upon(tuned: Path) -> None:
    one = runner(tuned)
    assert tuning.tune(one) == {}  # type: ignore[arg-type]
    text = (tuned / "uc_merced_uniform-promptfl.yaml").read_text()
    assert text == (
        "# @package _global_\n# Chosen on validation images: fedrsclip bench bench=tiny.\n"
        "\noptimizer:\n  lr: 0.3\n"  # of two equal ones the first
    )
    text = (tuned / "uc_merced_uniform-promptfl_ft.yaml").read_text()
    assert text.endswith("\noptimizer:\n  lr: 0.3\n\nprompt:\n  finetune_lr: 0.2\n")
    first, second = one.ran
    assert [c.method for c in first] == ["promptfl"] * 6
    assert first[-1].name == "bench-tiny-uc_merced_uniform-promptfl-trial2-seed101"
    based = [c for c in second if c.method == "promptfl_ft"]
    assert len(based) == 4
    assert all("optimizer.lr=0.3" in c.overrides for c in based)


def test_a_trial_replaces_what_it_builds_on(tuned: Path) -> None:
    ablation = "bench.trials.promptfl_ft=[['optimizer.lr=0.2','optimizer.momentum=0.5']]"
    tuning.tune(runner(tuned, ablation))  # type: ignore[arg-type]
    text = (tuned / "uc_merced_uniform-promptfl_ft.yaml").read_text()
    assert text.endswith("\noptimizer:\n  lr: 0.2\n  momentum: 0.5\n")


def test_what_is_recorded_is_not_tuned_again(tuned: Path) -> None:
    tuning.tune(runner(tuned))  # type: ignore[arg-type]
    again = runner(tuned)
    tuning.tune(again)  # type: ignore[arg-type]
    assert again.ran == []
    assert any("bench.again=true" in line for line in again.lines)
    wanted = runner(tuned, "bench.again=true")
    tuning.tune(wanted)  # type: ignore[arg-type]
    assert len(wanted.ran) == 2


def test_nothing_is_recorded_where_a_cell_failed(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runner(tuned)
    monkeypatch.setattr(one, "run", lambda cells, layout: ([], {"cell": "broken"}))
    assert tuning.tune(one) == {"cell": "broken"}  # type: ignore[arg-type]
    assert not list(tuned.glob("uc_merced*.yaml"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("++bench.trials.promptfl=[]", "bench.trials has none for promptfl"),
        ("bench.trials.promptfl=[['loss=ce']]", "group.key=value"),
    ],
)
def test_a_trial_that_cannot_be_recorded_is_refused(tuned: Path, change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tuning.tune(runner(tuned, change))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["promptfl", "promptfl_ft", "fedrsclip"])
def test_recorded_files_are_read_as_they_are_composed(method: str) -> None:
    values = tuning._values(tuning._file("uc_merced", method))
    config = configuration.compose(["experiment=uc_merced", f"method={method}"])
    assert values
    for key, value in values.items():
        assert configuration.get_value(config, key) == float(value)
