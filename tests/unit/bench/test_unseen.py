"""Unseen clients: who is left out, and what they start from."""

from collections.abc import Sequence

import pytest

from fedrsclip.bench import unseen as protocol
from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description, describe
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures
from fedrsclip.bench.schedule import Done, Job, Schedule, carry_out
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit

GRID = ["bench=demo", "bench.protocol=unseen", "bench.settings=[uniform]", "bench.seeds=[3]"]
METHODS = "bench.methods=[zero_shot,promptfl,promptfl_ft,local,fedrsclip]"


class FakeRunner:
    def __init__(self, description: Description) -> None:
        self.description = description
        self.cells: list[Cell] = []

    def run(self, cells: Sequence[Cell]) -> tuple[list[Row], Failures]:
        self.cells = list(cells)
        return [], {}


def cells(*more: str) -> dict[str, list[Cell]]:
    runner = FakeRunner(
        describe([*GRID, METHODS, "bench.reference=fedrsclip", "bench.epochs=[0,5]", *more])
    )
    protocol.unseen(runner)  # type: ignore[arg-type]
    return {
        method: [cell for cell in runner.cells if cell.method == method]
        for method in runner.description.bench.methods
    }


def test_a_fifth_is_drawn_by_the_seed() -> None:
    drawn = [protocol.left_out(10, seed) for seed in range(20)]
    assert all(len(set(d)) == 2 and list(d) == sorted(d) for d in drawn)
    assert len(set(drawn)) > 5
    assert protocol.left_out(10, 4) == drawn[4]
    assert len(protocol.left_out(2, 0)) == 1


def test_seen_and_unseen_share_the_clients_out() -> None:
    for found in cells().values():
        seen, *others = found
        assert others
        for other in others:
            assert sorted((*seen.partitions, *other.partitions)) == [0, 1, 2, 3]
        assert seen.config.federation.num_clients == 4  # the others' images stay theirs


def test_the_shared_prompt_is_taken_over_and_frozen() -> None:
    seen, zero, five = cells()["fedrsclip"]
    for cell, epochs in ((zero, 0), (five, 5)):
        config = cell.config
        assert cell.after == config.run.shared_init_from == seen.name
        assert (config.optimizer.lr, config.federation.num_rounds) == (0, epochs)
    assert five.label == "fedrsclip (5 epochs)"
    assert five.name == "bench-demo-uniform-fedrsclip-5epochs-seed3"


def test_shared_offsets_are_taken_over_and_frozen_too() -> None:
    seen, _, five = cells("bench.methods=[fedrsclip_plus]", "bench.reference=null")[
        "fedrsclip_plus"
    ]
    assert five.config.run.shared_init_from == seen.name
    optimizer = five.config.optimizer
    assert (optimizer.lr, optimizer.offsets_lr) == (0, None) and optimizer.private_lr
    assert five.config.federation.num_rounds == 5


def test_each_method_trains_what_it_has() -> None:
    found = cells()
    assert [c.variant for c in found["promptfl"]] == ["seen clients", "0 epochs"]
    assert [c.variant for c in found["zero_shot"]] == ["seen clients", "0 epochs"]
    tuned = found["promptfl_ft"][-1].config
    assert (tuned.federation.num_rounds, tuned.prompt.finetune_epochs) == (0, 5)
    alone = found["local"][-1]
    assert alone.after == "" and alone.config.run.shared_init_from is None
    assert alone.config.federation.num_rounds == 5
    assert alone.config.optimizer.lr > 0


def test_a_grid_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        cells("bench.epochs=[]")
    with pytest.raises(ConfigError, match="one client"):
        cells("federation.num_clients=1")


@pytest.mark.parametrize("failed", [False, True])
def test_a_cell_waits_for_the_one_that_it_builds_on(failed: bool) -> None:
    first = Cell("first", "s", "m", 0, ())
    later = Cell("later", "s", "m", 0, (), after="first")
    ran: list[str] = []

    def work(job: Job) -> Done:
        ran.append(job.cell.name)
        return Done(job, "broken" if failed else "", 0.0)

    schedule = Schedule([Job(later, "b"), Job(first, "a")])
    done = {d.job.cell.name: d.error for d in carry_out(schedule, [work, work])}
    assert ran == (["first"] if failed else ["first", "later"])
    assert ("first, which failed" in done["later"]) == failed
