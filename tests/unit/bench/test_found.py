"""What counts as a completed cell, and what its row holds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedrsclip.bench.cells import Cell, grid
from fedrsclip.bench.description import describe
from fedrsclip.bench.figures import class_rows, row_of
from fedrsclip.bench.found import completed, lost_replies, why_not_counted
from fedrsclip.bench.schedule import Job
from fedrsclip.bench.workers import timed
from fedrsclip_core.config.overrides import join_overrides
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.evaluations import FORMAT
from fedrsclip_core.runs.records import Results
from fedrsclip_core.wire.digests import code_digest
from tests.run_files import accuracies, description, results, round_record, spread

pytestmark = pytest.mark.unit

CALIBRATION = {"count": [0.0] * 14 + [4.0], "confidence": [0.0] * 14 + [3.9]}


def demo(*more: str) -> Cell:
    return grid(describe(["bench=demo", "bench.seeds=[0]", *more]))[-1]


@pytest.fixture
def left() -> Callable[..., Cell]:
    """Write what a completed cell leaves."""

    def leave(*more: str, status: str = "completed", code: str | None = None) -> Cell:
        cell = demo(*more)
        cell.folder.mkdir(parents=True)
        config = {k: v for k, v in flattened(cell.config) if k not in SITE_KEYS}
        about = description(cell.name, config, join_overrides(cell.submitted))
        (cell.folder / "run.json").write_text(json.dumps(about))
        digests = dict.fromkeys(("split", "classes", "clip", "config"), "d")
        ended = results(cell.name, status=status, digests=digests | {"code": code or code_digest()})
        (cell.folder / "results.json").write_text(json.dumps(ended))
        return cell

    return leave


def test_a_completed_cell_is_known_by_its_name(left: Callable[..., Cell]) -> None:
    assert completed(demo()) is None
    cell = left()
    found = completed(cell)
    assert found is not None and found["status"] == "completed"
    assert completed(demo()) is not None


@pytest.mark.parametrize("status", ["failed", "unknown"])
def test_one_that_did_not_end_well_is_not(status: str, left: Callable[..., Cell]) -> None:
    assert completed(left(status=status)) is None


def test_one_of_other_code_counts_with_an_equal_configuration(left: Callable[..., Cell]) -> None:
    assert completed(left(code="of-last-week")) is not None


def test_a_run_that_went_on_without_a_client_is_told() -> None:
    lost = {"total": 3, "clients": {"b": {"late": 2}, "a": {"timeout": 1}}}
    sentence = lost_replies(demo(), results("a", dropped=lost))
    assert sentence.startswith("it lacks 3 replies of a (timeout), b (late), so ")
    assert str(demo().folder) in sentence
    assert lost_replies(demo(), results("a")) == ""


def test_a_cell_that_lost_replies_ends_as_one_that_failed(left: Callable[..., Cell]) -> None:
    class Finished:
        def run(self, job: object) -> str:
            return ""

    cell = left()
    assert timed(Finished(), Job(cell, "images")).error == ""  # type: ignore[arg-type]
    path = cell.folder / "results.json"
    lost = {"total": 1, "clients": {"a": {"late": 1}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dropped": lost}))
    done = timed(Finished(), Job(cell, "images"))  # type: ignore[arg-type]
    assert done.error.startswith("it lacks 1 replies of a (late)")


def test_what_another_machine_wrote_is_waited_for(
    left: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert why_not_counted(demo(), "") == "it left no results"
    assert why_not_counted(demo(), "it is broken", patience=60.0) == "it is broken"
    naps: list[float] = []

    def shown_now(seconds: float) -> None:
        naps.append(seconds)
        left()

    monkeypatch.setattr("time.sleep", shown_now)
    assert why_not_counted(demo(), "", patience=60.0) == ""
    assert len(naps) == 1


def test_another_configuration_under_the_name_is_a_sentence(left: Callable[..., Cell]) -> None:
    left("optimizer.lr=0.7")
    with pytest.raises(ConfigError, match=r"optimizer\.lr=0\.7, the benchmark now says 1\.0"):
        completed(demo())


def test_a_damaged_folder_is_a_sentence(left: Callable[..., Cell]) -> None:
    cell = left()
    (cell.folder / "results.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        completed(cell)


def results_of(cell: Cell) -> Results:
    figures = accuracies(shared=0.75, personalized={**spread(0.5, worst=0.25), "pooled": 0.4})
    return results(
        cell.name,
        last=round_record(5, test=figures, val=figures),
        zero_shot={"test": 0.3, "val": None},
    )


def keep(cell: Cell, client: str, confusion: list[list[int]], *, run: str = "") -> Path:
    tally = {"confusion": confusion, "calibration": CALIBRATION | {"correct": [0.0] * 14 + [3.0]}}
    kept = {"format": FORMAT, "run": run or cell.name, "client": client, "round": 5}
    kept |= {"class_names": ["a", "b"]}
    folder = paths.evaluations_dir("demo", cell.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{client}.json").write_text(
        json.dumps(kept | {"parts": {"test": {"global": tally}}})
    )
    return folder


def test_a_row_has_percentages_and_knows_what_it_does_not_know(left: Callable[..., Cell]) -> None:
    cell = left()
    row = row_of(cell, results_of(cell))
    assert (row["test_global"], row["test_personalized"], row["test_zero_shot"]) == (75, 50, 30)
    assert (row["test_personalized_worst"], row["test_personalized_pooled"]) == (25, 40)
    assert row["test_own"] is row["best_test_global"] is row["val_zero_shot"] is None
    assert row["test_global_f1"] is row["test_global_ece"] is None  # nothing was kept
    assert row["repeat"].startswith("fedrsclip run partition=uniform ")
    assert row_of(cell, None) == {k: row[k] for k in ("setting", "method", "variant", "seed")}


def keep_rounds(cell: Cell, *values: float, last: int = 7) -> None:
    """Write rounds from 0 on, each with one value as global and personalized accuracy."""
    records = []
    for number, value in enumerate(values):
        figures = accuracies(shared=value, personalized=spread(value, worst=value / 2))
        more = {"test": figures, "val": figures, "final": number == last}
        records.append(json.dumps(round_record(number, **more)) + "\n")
    (cell.folder / "metrics.jsonl").write_text("".join(records))


def ended(cell: Cell, last: int) -> Results:
    return results(cell.name, last=round_record(last, final=True))


def test_the_last_five_rounds_are_averaged(left: Callable[..., Cell]) -> None:
    cell = left()
    keep_rounds(cell, 0.9, 0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5)
    row = row_of(cell, ended(cell, 7))
    assert row["last5_test_global"] == pytest.approx(30)
    assert row["last5_val_personalized"] == pytest.approx(30)
    assert row["last5_test_personalized_worst"] == pytest.approx(15)
    assert row["last5_test_own"] is None


def test_the_start_is_no_round_to_average(left: Callable[..., Cell]) -> None:
    cell = left()
    keep_rounds(cell, 0.9, 0.1, 0.3, last=2)
    assert row_of(cell, ended(cell, 2))["last5_test_global"] == pytest.approx(20)
    keep_rounds(cell, 0.9, last=0)
    assert row_of(cell, ended(cell, 0))["last5_test_global"] == pytest.approx(90)


def test_only_the_final_evaluation_is_fine_tuned(left: Callable[..., Cell]) -> None:
    cell = left("bench.methods=[promptfl_ft]", "bench.reference=null")
    keep_rounds(cell, 0.9, 0.1, 0.3, last=2)
    row = row_of(cell, ended(cell, 2))
    assert row["last5_test_global"] == pytest.approx(20)
    assert row["last5_test_personalized"] == pytest.approx(30)


def test_bytes_of_a_client_and_round(left: Callable[..., Cell]) -> None:
    cell = left()
    assert row_of(cell, ended(cell, 2))["bytes_per_round"] is None
    keep_rounds(cell, 0.9, 0.1, 0.3, last=2)
    sent = 1000 * 3  # of the start and two rounds, by two clients in each of the two
    assert row_of(cell, ended(cell, 2))["bytes_per_round"] == sent / 4


def test_what_the_clients_kept_is_pooled(left: Callable[..., Cell]) -> None:
    cell = left()
    keep(cell, "client-0", [[2, 0], [1, 1]])
    keep(cell, "client-1", [[1, 0], [1, 2]])
    row = row_of(cell, results_of(cell))
    # pooled [[3, 0], [2, 3]]: 6 / (3 + 5) and 6 / (5 + 3)
    assert row["test_global_f1"] == pytest.approx(75)
    assert row["test_global_ece"] == pytest.approx(100 * (7.8 - 6) / 8)
    classes = class_rows(cell, results_of(cell))
    assert [(r["mode"], r["class"], r["images"], r["correct"]) for r in classes] == [
        ("global", "a", 3, 3),
        ("global", "b", 5, 3),
    ]
    assert classes[1]["accuracy"] == 60


def test_details_of_another_run_or_a_missing_client_do_not_count(
    left: Callable[..., Cell],
) -> None:
    cell = left()
    keep(cell, "client-0", [[2, 0], [1, 1]])
    assert row_of(cell, results_of(cell))["test_global_f1"] is None
    keep(cell, "client-1", [[2, 0], [1, 1]], run="another")
    assert row_of(cell, results_of(cell))["test_global_f1"] is None


def test_other_clients_than_wanted_are_a_sentence(left: Callable[..., Cell]) -> None:
    cell = left()
    ended = json.loads((cell.folder / "results.json").read_text())
    ended["clients"][1]["partition_id"] = 2
    (cell.folder / "results.json").write_text(json.dumps(ended))
    assert completed(replace(cell, partitions=(0, 2))) is not None
    with pytest.raises(ConfigError, match=r"clients \[0, 2\]"):
        completed(replace(cell, partitions=(1, 2)))
