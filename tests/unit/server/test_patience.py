"""How long a site is waited for, and whole runs in which one does not answer."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict

from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.wire.messages import (
    EVALUATE,
    QUERY_IDENTITY,
    QUERY_PREPARE,
    TRAIN,
    ClientFailure,
    FailureCode,
)
from server_app.admission import Client
from server_app.app import RunOutcome, run
from server_app.checkpoint import newest_checkpoint
from server_app.exchange import Reply, Wait
from server_app.flower_internals import ErrorCode
from server_app.patience import FINETUNE, Patience
from tests.unit.server.fake_runs import records, start_prompt
from tests.unit.server.fakes import Clock, Fakes, identity, small_config

pytestmark = pytest.mark.unit

UPPER = 600.0
CLIENTS = [Client(1000 + p, identity(p, small_config())) for p in range(3)]


def patience(needed: int = 2, *, simulation: bool = False) -> Patience:
    return Patience(UPPER, needed, simulation=simulation)


def answered(seconds: float) -> Reply:
    return Reply(None, "disk", 10, 10, seconds)


def lost(reason: str = "timeout") -> Reply:
    return Reply(None, reason, 10, 0, 30.0)


def after(
    past: Patience, *rounds: Sequence[Reply], kind: str = TRAIN
) -> tuple[dict[int, Wait], list[str]]:
    """Let rounds happen; return how long each client is waited for next, and what was said."""
    said = [
        past.learn(kind, client, reply)
        for replies in rounds
        for client, reply in zip(CLIENTS, replies, strict=False)
    ]
    return past.waits(kind, CLIENTS), [line for line in said if line]


FAST = (answered(4.0), answered(5.0), answered(4.0))
SLOW = (answered(4.0), answered(5.0), answered(20.0))


def test_the_first_rounds_have_the_whole_time() -> None:
    waits, _ = after(patience(), FAST)
    assert set(waits.values()) == {Wait(UPPER, UPPER)}


def test_then_a_client_has_a_multiple_of_its_own_time() -> None:
    waits, _ = after(patience(), SLOW, SLOW, SLOW)
    assert waits == {
        1000: Wait(30.0, 120.0),
        1001: Wait(30.0, 120.0),
        1002: Wait(80.0, 170.0),
    }


def test_the_whole_time_stays_the_upper_bound() -> None:
    slow = [answered(400.0)] * 3
    assert set(after(patience(), slow, slow)[0].values()) == {Wait(UPPER, UPPER)}


def test_a_client_that_becomes_slower_has_more_and_more_time() -> None:
    past, missing = patience(), (answered(4.0), answered(5.0), lost())
    limits = [after(past, FAST, FAST)[0][1002].limit]
    limits += [after(past, missing)[0][1002].limit for _ in range(6)]
    assert limits == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    past.learn_late(TRAIN, CLIENTS[2], 100.0)
    assert past.waits(TRAIN, CLIENTS)[1002].alone == 150.0


def test_late_twice_in_a_row_is_doubted_and_one_answer_makes_it_good() -> None:
    past, missing = patience(), (answered(4.0), answered(5.0), lost())
    waits, said = after(past, FAST, FAST, missing)
    assert (waits[1002].alone, said) == (None, [])
    waits, said = after(past, missing)
    assert waits[1002].alone == 6.0
    assert said == [
        "client client-2 was late again: it is asked, but rounds no longer wait for it until it "
        "answers in time"
    ]
    waits, said = after(past, (*FAST[:2], lost("late")))
    assert (waits[1002].alone, said) == (6.0, [])
    waits, said = after(past, FAST)
    assert waits[1002] == Wait(30.0, 120.0)
    assert said == ["client client-2 has answered in time again: rounds wait for it"]


def test_late_once_and_in_time_between_is_not_doubted() -> None:
    past, missing = patience(), (answered(4.0), answered(5.0), lost())
    waits, said = after(past, FAST, FAST, missing, FAST, missing, FAST, missing)
    assert (waits[1002].alone, said) == (None, [])


def test_one_that_never_answered_is_doubted_at_once() -> None:
    waits, said = after(patience(), (answered(4.0), answered(5.0), lost()))
    assert waits[1002] == Wait(UPPER, UPPER, 0.0)
    assert len(said) == 1


def test_a_client_that_flower_holds_to_be_gone_is_not_late() -> None:
    past, gone = patience(), (answered(4.0), answered(5.0), lost("unreachable"))
    waits, said = after(past, FAST, FAST, gone, gone, gone)
    assert (waits[1002], said) == (Wait(30.0, 120.0), [])


@pytest.mark.parametrize("needed", [2, 3])
def test_nobody_is_waited_for_less_without_whom_the_round_would_fail(needed: int) -> None:
    past, missing = patience(needed), (answered(4.0), answered(5.0), lost())
    waits, _ = after(past, FAST, FAST, missing, missing)
    # With the third in doubt both others are needed; of three that are needed all are.
    assert waits.keys() == ({1002} if needed == 2 else set())


def test_an_evaluation_takes_no_longer_than_training() -> None:
    past = patience()
    after(past, SLOW, SLOW)
    assert past.waits(EVALUATE, CLIENTS)[1002] == Wait(80.0, 170.0)
    assert past.waits(FINETUNE, CLIENTS)[1002] == Wait(UPPER, UPPER)


def test_a_simulation_waits_the_same_however_busy_its_machine_is() -> None:
    past, missing = patience(simulation=True), (answered(4.0), answered(5.0), lost())
    assert after(past, FAST, FAST, missing, missing) == ({}, [])


def test_what_was_learned_outlives_the_server() -> None:
    past, again = patience(), patience()
    after(past, SLOW, SLOW)
    again.restore(past.state())
    assert again.waits(TRAIN, CLIENTS) == past.waits(TRAIN, CLIENTS)


# --- whole runs -------------------------------------------------------------------------------


class Living(InProcessGrid):
    """Sites that take 4 seconds, and one of three that is silent or slow in some rounds."""

    def __init__(self, fakes: Fakes, clock: Clock, takes: Callable[[int], float]) -> None:
        nodes = [{"partition-id": p, "num-partitions": 3} for p in range(3)]
        deployed = fakes.grid(deployed=True).run
        super().__init__(fakes.app(), nodes)
        self.set_run(deployed)
        self._clock, self._takes = clock, takes
        self._ready: dict[str, float] = {}
        self.round = 0
        self.asked: list[tuple[int, int]] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        if messages[0].metadata.message_type == TRAIN:
            self.round += 1
        names = list(super().push_messages(messages))
        for name, message in zip(names, messages, strict=True):
            takes, node = 4.0, message.metadata.dst_node_id
            if node == 1002 and self.round:
                self.asked.append((self.round, node))
                takes = self._takes(self.round)
            self._ready[name] = self._clock.now + takes
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return super().pull_messages(m for m in message_ids if self._ready[m] <= self._clock.now)


def deployed(**federation: object) -> Config:
    settings = {"min_replies": 2, "round_timeout": UPPER, "connect_timeout": 60.0}
    settings["max_prompt_norm"] = 1e6
    return small_config(**(settings | federation))


def live(
    config: Config, takes: Callable[[int], float]
) -> tuple[RunOutcome, list[str], Living, Clock]:
    clock, said = Clock(), list[str]()
    grid = Living(Fakes(config), clock, takes)
    outcome = run(clock.exchange(grid), config, run_id=7, echo=said.append)
    return outcome, said, grid, clock


def test_a_site_that_falls_silent_costs_two_waits_and_comes_back() -> None:
    silent = range(5, 75)
    outcome, said, _, _ = live(
        deployed(num_rounds=140), lambda number: 1e9 if number in silent else 4.0
    )
    seconds = [record["seconds"] for record in records(outcome.folder)]
    valid = [record["clients"]["valid"] for record in records(outcome.folder)]
    assert seconds[1:8] == pytest.approx([4, 4, 4, 4, 30, 4, 4], abs=0.6)
    assert sorted(seconds[8:])[-2:] == pytest.approx([11, 60], abs=0.6)
    # All that a silent site costs: less than two of the ten minutes that one round used to.
    assert sum(seconds[5:]) - 4 * 136 < 120
    assert valid[140] == 3
    assert valid[5:75] == [2] * 70
    replies = [record["clients"] for record in records(outcome.folder)]
    dropped = [(r["asked"], r["dropped"]["client-2"]) for r in replies if r["dropped"]]
    assert dropped == [(3, "timeout"), (3, "timeout"), (3, "late")]
    # It is not sent a second message before the first is over.
    assert replies[6]["asked"] == 2
    assert sum("was late again" in line for line in said) == 1
    assert sum("has answered in time again" in line for line in said) == 1
    assert outcome.results["failed_rounds"] == []


def test_a_site_that_is_slow_from_some_round_on_is_waited_for_again() -> None:
    outcome, said, _, _ = live(deployed(num_rounds=60), lambda number: 4.0 if number < 5 else 100.0)
    last = records(outcome.folder)[-1]
    assert last["clients"]["valid"] == 3
    assert last["seconds"] == pytest.approx(100.0, abs=1)
    dropped = outcome.results["dropped"]["clients"]["client-2"]
    assert dropped == {"timeout": 1, "out-of-step": 1}
    assert sum("its round is over" in line for line in said) == 1


def test_a_reply_that_comes_after_its_round_is_named_and_never_averaged() -> None:
    config = deployed(num_rounds=30)
    takes = {3: 40.0}
    outcome, said, _, _ = live(config, lambda number: takes.get(number, 4.0))
    (line,) = [line for line in said if "its round is over" in line]
    assert "dropped a reply of client client-2 (it came after 40 s" in line
    counted = [r["clients"].get("out_of_step") for r in records(outcome.folder)]
    assert [c for c in counted if c] == [{"client-2": 1}]
    assert outcome.results["dropped"]["clients"]["client-2"]["out-of-step"] == 1
    # Clients add 1, 2, 3 with weights 10, 20, 30 where all count; of two, both weigh the same.
    all_in = sum(r["clients"]["valid"] == 3 for r in records(outcome.folder)[1:])
    expected = start_prompt(config) + all_in * 14 / 6 + (30 - all_in) * 3 / 2
    np.testing.assert_allclose(outcome.shared[SHARED_PROMPT], expected, atol=1e-4)


def test_a_site_that_is_silent_from_the_start_costs_one_wait() -> None:
    config = deployed(num_rounds=10, prepare_timeout=50.0)
    clock, fakes = Clock(), Fakes(config, silent={(TRAIN, 2), (EVALUATE, 2)})
    grid = fakes.grid(deployed=True)
    outcome = run(clock.exchange(grid), config, run_id=7, echo=lambda line: None)
    assert outcome.results["rounds"] == 10
    assert clock.now - 100.0 < UPPER + 60


def test_a_resumed_run_goes_on_with_its_quorum_and_the_missing_site_joins_later() -> None:
    def interrupted(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == 4:
            raise KeyboardInterrupt
        return answer

    config = deployed(num_rounds=8, prepare_timeout=3600.0, connect_timeout=3600.0)
    with pytest.raises(KeyboardInterrupt):
        fakes = Fakes(config, scripts={(TRAIN, 0): interrupted})
        run(Clock().exchange(fakes.grid(deployed=True)), config, run_id=7, echo=lambda line: None)
    clock, said = Clock(), list[str]()
    fakes = Fakes(config, silent={(k, 2) for k in (QUERY_IDENTITY, QUERY_PREPARE)})

    def train(partition, message, answer):  # type: ignore[no-untyped-def]
        clock.now += 50.0
        if message.content["config"]["server-round"] == 5:
            fakes.silent.clear()
        return answer

    fakes.scripts = {(TRAIN, 0): train}
    grid = fakes.grid(deployed=True)
    outcome = run(clock.exchange(grid), config, run_id=7, echo=said.append)
    valid = [record["clients"]["valid"] for record in records(outcome.folder)]
    assert valid == [0, 3, 3, 3, 2, 2, 2, 3, 3]
    assert said.index("client client-2 joins the run") > 0
    assert [client["name"] for client in outcome.results["clients"]] == [
        "client-0",
        "client-1",
        "client-2",
    ]
    assert outcome.results["refused"] == {}
    waited = clock.now - 100.0 - 5 * 50.0
    assert waited < 60


def test_a_checkpoint_keeps_what_was_learned() -> None:
    outcome, *_ = live(deployed(num_rounds=3), lambda number: 4.0)
    newest = newest_checkpoint(RunFolder(outcome.folder), print)
    assert newest is not None
    assert newest.progress.reply_seconds["client-2"][TRAIN] == pytest.approx([4.0] * 3, abs=0.5)


def test_a_run_still_ends_when_too_few_answer() -> None:
    config = deployed(num_rounds=9, max_failed_rounds=2)
    clock = Clock()
    fakes = Fakes(config)

    def quiet_from_third(partition, message, answer):  # type: ignore[no-untyped-def]
        if message.content["config"]["server-round"] == 3:
            fakes.silent.update({(TRAIN, 1), (TRAIN, 2)})
        return answer

    fakes.scripts = {(TRAIN, 0): quiet_from_third}
    with pytest.raises(RunError, match="2 rounds in a row failed"):
        run(clock.exchange(fakes.grid(deployed=True)), config, run_id=7, echo=lambda line: None)
    # Learned times do not make it give up sooner than what it was told.
    assert clock.now - 100.0 > UPPER


def test_flower_telling_that_a_node_is_gone_frees_it_to_be_asked_again() -> None:
    gone = Error(ErrorCode.NODE_UNAVAILABLE, "")

    class Restarting(Living):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            ids = list(message_ids)
            found = list(super().pull_messages(ids))
            if not found and self.round == 9 and ids[0] == self.last:
                asked = Message(RecordDict(), 1002, TRAIN)
                asked.metadata.__dict__["_message_id"] = ids[0]
                return [Message(gone, reply_to=asked)]
            return found

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            messages = list(messages)
            names = list(super().push_messages(messages))
            for name, message in zip(names, messages, strict=True):
                if message.metadata.dst_node_id == 1002:
                    self.last = name
            return names

    clock, said = Clock(), list[str]()
    config = deployed(num_rounds=14)
    grid = Restarting(Fakes(config), clock, lambda n: 1e9 if n in range(5, 9) else 4.0)
    outcome = run(clock.exchange(grid), config, run_id=7, echo=said.append)
    valid = [record["clients"]["valid"] for record in records(outcome.folder)]
    # Asked again in the round after that in which the SuperNode was seen to be gone.
    assert valid[5:12] == [2, 2, 2, 2, 2, 3, 3]


def test_rounds_that_fail_at_once_do_not_end_a_run_at_once() -> None:
    config = deployed(num_rounds=9, max_failed_rounds=4)
    clock = Clock()

    def broken(partition, message, answer):  # type: ignore[no-untyped-def]
        raise ClientFailure(FailureCode.DISK)

    fakes = Fakes(config, scripts={(TRAIN, 1): broken, (TRAIN, 2): broken})
    with pytest.raises(RunError, match="4 rounds in a row failed"):
        run(clock.exchange(fakes.grid(deployed=True)), config, run_id=7, echo=lambda line: None)
    assert clock.now == pytest.approx(130.0)
