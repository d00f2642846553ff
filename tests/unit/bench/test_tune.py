"""Tuning: the best trial on validation images is recorded, and others build on it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedrsclip.bench import tune as tuning
from fedrsclip.bench.cells import Cell, grid
from fedrsclip.bench.description import Description, describe
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures
from fedrsclip.bench.tables import Layout
from fedrsclip.bench.tune import at_the_edge
from fedrsclip.run.own_tuning import write_table
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.tuned import read_table
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

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
again: true
"""
EXPERIMENT = "bench.settings={uc_merced_uniform: ['experiment=uc_merced']}"
LATER = """
settings: {heterogeneous: [experiment=uc_merced]}
methods: [promptfl, fedotp, local]
seeds: [0]
"""
SCORES = {"optimizer.lr=0.1": 40.0, "optimizer.lr=0.3": 44.0, "optimizer.lr=0.5": 44.0}


class FakeRunner:
    """Scores each cell by the trial's own override; ``ran`` are the names by call."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.ran: list[list[Cell]] = []
        self.lines: list[str] = []
        self.other_scores: dict[str, float] = {}

    def echo(self, line: str) -> None:
        self.lines.append(line)

    def run(self, cells: Sequence[Cell], layout: Layout) -> tuple[list[Row], Failures]:
        assert layout is tuning.LAYOUT
        self.ran.append(list(cells))
        return [self._row(cell) for cell in cells], {}

    def _row(self, cell: Cell) -> Row:
        scores = SCORES | self.other_scores
        score = next((scores[text] for text in cell.overrides if text in scores), 0.0)
        fine = "prompt.finetune_lr=0.2" in cell.overrides
        names = {"setting": cell.setting, "method": cell.method, "variant": cell.variant}
        seed = cell.seed - 100.5
        figures = {"global": score + seed, "personalized": 70.0 + fine + seed}
        # The last round alone would choose the others.
        alone = {f"val_{mode}": -value for mode, value in figures.items()}
        return names | alone | {f"last5_val_{mode}": value for mode, value in figures.items()}


def runner(tmp_path: Path, *more: str) -> FakeRunner:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return FakeRunner(describe([f"bench={tmp_path / 'tiny.yaml'}", *more]))


def test_the_best_trial_is_recorded_and_built_upon(tmp_path: Path) -> None:
    one = runner(tmp_path)
    assert tuning.tune(one) == {}  # type: ignore[arg-type]
    assert read_table(paths.tuned_file()) == {
        "uc_merced_uniform": {
            "promptfl": {"optimizer.lr": 0.3},  # of two equal ones the first
            "promptfl_ft": {"optimizer.lr": 0.3, "prompt.finetune_lr": 0.2},
        }
    }
    first, second = one.ran
    assert [c.method for c in first] == ["promptfl"] * 6
    assert first[-1].name == "bench-tiny-uc_merced_uniform-promptfl-trial2-seed101"
    based = [c for c in second if c.method == "promptfl_ft"]
    assert len(based) == 4
    assert all("optimizer.lr=0.3" in c.overrides for c in based)


TRIALS = [
    ["optimizer.lr=0.5", "loss.lambda_dpac=0.0", "loss.dpac_form=own"],
    ["optimizer.lr=1.0", "loss.lambda_dpac=2.0", "loss.dpac_form=all"],
    ["optimizer.lr=2.0", "loss.lambda_dpac=1.0", "loss.dpac_form=all", "optimizer.momentum=0.9"],
]


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (0, ["optimizer.lr=0.5 is the edge of its trials: add 0.25"]),
        (1, ["loss.lambda_dpac=2.0 is the edge of its trials: add 4"]),
        (2, ["optimizer.lr=2.0 is the edge of its trials: add 4"]),
    ],
)
def test_a_choice_at_the_edge_is_told(best: int, expected: list[str]) -> None:
    assert at_the_edge(TRIALS, best) == expected


def test_a_choice_at_the_edge_is_recorded_all_the_same(tmp_path: Path) -> None:
    one = runner(tmp_path, "bench.methods=[promptfl]", "bench.based_on={}")
    one.other_scores = {"optimizer.lr=0.5": 50.0}
    tuning.tune(one)  # type: ignore[arg-type]
    words = "uc_merced_uniform promptfl: optimizer.lr=0.5 is the edge of its trials: add 0.83"
    assert words in one.lines
    chosen = read_table(paths.tuned_file())["uc_merced_uniform"]["promptfl"]
    assert chosen == {"optimizer.lr": 0.5}


def test_a_trial_replaces_what_it_builds_on(tmp_path: Path) -> None:
    ablation = "bench.trials.promptfl_ft=[['optimizer.lr=0.2','optimizer.momentum=0.5']]"
    tuning.tune(runner(tmp_path, ablation))  # type: ignore[arg-type]
    chosen = read_table(paths.tuned_file())["uc_merced_uniform"]["promptfl_ft"]
    assert chosen == {"optimizer.lr": 0.2, "optimizer.momentum": 0.5}


def test_what_has_a_choice_is_not_tuned_again_unasked(tmp_path: Path) -> None:
    shipped = runner(tmp_path, "bench.again=false")
    tuning.tune(shipped)  # type: ignore[arg-type]
    assert shipped.ran == []
    assert any("promptfl has a choice in what ships" in line for line in shipped.lines)
    tuning.tune(runner(tmp_path))  # type: ignore[arg-type]
    own = runner(tmp_path, "bench.again=false")
    tuning.tune(own)  # type: ignore[arg-type]
    assert own.ran == []
    assert all(f"has a choice in {paths.tuned_file()}" in line for line in own.lines)


def test_a_trial_is_not_composed_on_top_of_an_earlier_choice(tmp_path: Path) -> None:
    lr = configuration.compose(["method=promptfl"]).optimizer.lr
    recorded = ["experiment=uc_merced", "method=promptfl"]
    assert configuration.compose(recorded).optimizer.lr != lr
    tuning.tune(runner(tmp_path, EXPERIMENT))  # type: ignore[arg-type]
    one = runner(tmp_path, "bench.trials.promptfl=[['optimizer.momentum=0.5']]", EXPERIMENT)
    tuning.tune(one)  # type: ignore[arg-type]
    trial = next(cell for cell in one.ran[0] if cell.method == "promptfl")
    assert (trial.config.optimizer.lr, trial.config.optimizer.momentum) == (lr, 0.5)


def test_a_choice_is_recorded_where_the_user_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    write_table(file, {"other": {"local": {"optimizer.lr": 0.1}}})
    tuning.tune(runner(tmp_path, f"bench.tuned={file}"))  # type: ignore[arg-type]
    assert {e: list(m) for e, m in read_table(file).items()} == {
        "other": ["local"],
        "uc_merced_uniform": ["promptfl", "promptfl_ft"],
    }
    assert not paths.tuned_file().exists()


def test_nothing_is_recorded_where_a_cell_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runner(tmp_path)
    monkeypatch.setattr(one, "run", lambda cells, layout: ([], {"cell": "broken"}))
    assert tuning.tune(one) == {"cell": "broken"}  # type: ignore[arg-type]
    assert not paths.tuned_file().exists()


def test_later_cells_take_a_users_own_choice_as_plain_overrides(tmp_path: Path) -> None:
    (tmp_path / "later.yaml").write_text(LATER)
    asked = [f"bench={tmp_path / 'later.yaml'}"]
    recorded = grid(describe(asked))
    own = {"promptfl": {"optimizer.lr": 0.3}, "fedotp": {"optimizer.lr": 0.5}}
    write_table(paths.tuned_file(), {"uc_merced": own})
    promptfl, fedotp, local = grid(describe(asked))
    assert promptfl.own == ("tuned=null", "optimizer.lr=0.3")
    assert promptfl.overrides[:2] == promptfl.own
    assert promptfl.config.optimizer.lr == 0.3
    # The recorded choice for the private learning rate is no part of the user's.
    assert recorded[1].config.optimizer.private_lr == 0.3
    assert (fedotp.config.optimizer.lr, fedotp.config.optimizer.private_lr) == (0.5, 0.6)
    assert (local.own, local.config) == ((), recorded[2].config)
    given = grid(describe([*asked, "optimizer.lr=0.7"]))
    assert (given[0].own, given[0].config.optimizer.lr) == (("tuned=null",), 0.7)
    without = grid(describe([*asked, "tuned=recorded"]))
    assert [cell.config for cell in without] == [cell.config for cell in recorded]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("++bench.trials.promptfl=[]", "bench.trials has none for promptfl"),
        ("bench.trials.promptfl=[['loss=ce']]", "group.key=value"),
    ],
)
def test_a_trial_that_cannot_be_recorded_is_refused(
    tmp_path: Path, change: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        tuning.tune(runner(tmp_path, change))  # type: ignore[arg-type]
