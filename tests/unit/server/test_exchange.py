"""Bounded waits, guarded replies, and reasons without a client's own words."""

import math

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.wire.messages import QUERY_IDENTITY, ClientFailure, FailureCode
from fedrsclip_core.wire.records import CONFIG, pack_query
from server_app.exchange import (
    Exchange,
    Reply,
    Stray,
    Wait,
    failure_reason,
    new_messages,
    serialized_size,
)
from server_app.flower_internals import ErrorCode
from tests.unit.server.fakes import Clock, Fakes, small_config

pytestmark = [pytest.mark.unit, pytest.mark.flower]

REQUEST = pack_query("r", "c", "d")


def exchange_of(grid: InProcessGrid) -> tuple[Exchange, Clock]:
    clock = Clock()
    return clock.exchange(grid), clock


def ask(exchange: Exchange, timeout: float = 5.0):  # type: ignore[no-untyped-def]
    nodes = list(exchange.grid.get_node_ids())
    return exchange.ask(new_messages(REQUEST, nodes, QUERY_IDENTITY), timeout)


def test_all_replies_come_at_once_without_sleeping() -> None:
    exchange, clock = exchange_of(Fakes(small_config()).grid())
    replies = ask(exchange)
    assert [reply.reason for reply in replies.values()] == ["", "", ""]
    assert all(reply.bytes_down > 0 and reply.bytes_up > 0 for reply in replies.values())
    assert clock.sleeps == []


def test_a_silent_node_costs_the_timeout_and_no_more() -> None:
    fakes = Fakes(small_config(), silent={(QUERY_IDENTITY, 1)})
    exchange, clock = exchange_of(fakes.grid())
    replies = list(ask(exchange).values())
    assert [reply.reason for reply in replies] == ["", "timeout", ""]
    assert clock.now == pytest.approx(105.0)
    assert max(clock.sleeps) <= 0.5


def test_the_last_of_many_replies_is_seen_soon() -> None:
    clock = Clock()
    ready: dict[str, float] = {}

    class Later(InProcessGrid):
        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            (name,) = message_ids
            at = ready.setdefault(name, 100.0 + 0.071 * (len(ready) + 1))
            return super().pull_messages([name]) if clock.now >= at else []

    fakes = Fakes(small_config(), num_clients=40)
    grid = Later(fakes.app(), [{"partition-id": p} for p in range(40)])
    assert len(ask(clock.exchange(grid), 60.0)) == 40
    assert clock.now - max(ready.values()) < 0.11
    assert max(clock.sleeps) > 0.3


def test_a_long_wait_is_told_now_and_then() -> None:
    fakes = Fakes(small_config(), silent={(QUERY_IDENTITY, 1)})
    exchange, _ = exchange_of(fakes.grid())
    told: list[tuple[int, int]] = []
    messages = new_messages(REQUEST, list(exchange.grid.get_node_ids()), QUERY_IDENTITY)
    exchange.ask(messages, 100.0, lambda done, total: told.append((done, total)))
    assert told == [(2, 3)] * 3


def test_messages_live_as_long_as_they_are_waited_for() -> None:
    messages: list[Message] = []

    class Watching(InProcessGrid):
        def answer(self, message: Message) -> Message | None:
            messages.append(message)
            return super().answer(message)

    exchange, _ = exchange_of(Watching(Fakes(small_config()).app(), [{"partition-id": 0}]))
    ask(exchange, timeout=7.5)
    assert [message.metadata.ttl for message in messages] == [7.5]


class Slow(InProcessGrid):
    """Answers one message each 0.5 seconds, in the order in which they came."""

    def __init__(self, clock: Clock, num_clients: int) -> None:
        nodes = [{"partition-id": p} for p in range(num_clients)]
        super().__init__(Fakes(small_config(), num_clients=num_clients).app(), nodes)
        self._clock = clock
        self._free_at = clock.now
        self._ready: dict[str, float] = {}
        self._pulled: set[str] = set()
        self.under_way: list[int] = []
        self.idle = 0.0

    def push_messages(self, messages):  # type: ignore[no-untyped-def]
        names = list(super().push_messages(messages))
        for name in names:
            self.idle += max(0.0, self._clock.now - self._free_at)
            self._free_at = max(self._free_at, self._clock.now) + 0.5
            self._ready[name] = self._free_at
        self.under_way.append(len(self._ready.keys() - self._pulled))
        return names

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        due = [m for m in message_ids if self._ready[m] <= self._clock.now]
        self._pulled.update(due)
        return super().pull_messages(due)


def test_no_more_than_so_many_messages_are_under_way_and_nobody_waits_for_work() -> None:
    clock = Clock()
    grid = Slow(clock, 40)
    exchange = Exchange(grid, clock=clock, sleep=clock.sleep, at_once=6)
    replies = ask(exchange, 60.0)
    assert list(replies) == list(grid.get_node_ids())
    assert {reply.reason for reply in replies.values()} == {""}
    assert max(grid.under_way) == 6
    assert grid.idle == 0.0
    assert clock.now == pytest.approx(120.0, abs=0.2)


def test_what_could_not_be_sent_in_time_is_late_too() -> None:
    clock = Clock()
    grid = Slow(clock, 40)
    exchange = Exchange(grid, clock=clock, sleep=clock.sleep, at_once=6)
    replies = ask(exchange, 5.0)
    reasons = [reply.reason for reply in replies.values()]
    assert reasons == [""] * 10 + ["timeout"] * 30
    assert [reply.bytes_down > 0 for reply in replies.values()].count(True) < 20
    assert clock.now == pytest.approx(105.0)


def test_a_later_message_lives_as_long_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("server_app.exchange.time.time", clock)
    ends: list[float] = []

    class Watching(Slow):
        def push_messages(self, messages):  # type: ignore[no-untyped-def]
            # What a client, and Flower, go by: not when it was sent but when it was made.
            ends.extend(m.metadata.created_at + m.metadata.ttl for m in messages)
            return super().push_messages(messages)

    grid = Watching(clock, 12)
    ask(Exchange(grid, clock=clock, sleep=clock.sleep, at_once=2), 30.0)
    assert ends == [pytest.approx(130.0)] * 12


def test_instant_replies_are_not_slept_for_between_two_sendings() -> None:
    grid = Fakes(small_config(), num_clients=40).grid()
    clock = Clock()
    replies = ask(Exchange(grid, clock=clock, sleep=clock.sleep, at_once=6))
    assert {reply.reason for reply in replies.values()} == {""}
    assert clock.sleeps == []


def test_a_late_reply_is_never_looked_at() -> None:
    clock = Clock()
    grid = Slow(clock, 1)
    exchange = clock.exchange(grid)
    sent = exchange.send(new_messages(REQUEST, [1000], QUERY_IDENTITY), 0.25)
    message_id = sent[1000].message_id
    clock.now += 0.25
    assert exchange.collect(sent)[1000].reason == "timeout"
    clock.now += 1.0
    assert sent == {}
    assert exchange.collect(sent) == {}
    assert len(grid.pull_messages([message_id])) == 1


def failures_of_the_superlink() -> list[httpx.HTTPError]:
    request = httpx.Request("POST", "https://superlink/v1/runtime/pull-messages")
    return [
        httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING]", request=request),
        httpx.ReadTimeout("", request=request),
        httpx.HTTPStatusError("500", request=request, response=httpx.Response(500)),
    ]


class Away(InProcessGrid):
    """Its SuperLink cannot be asked before ``until``."""

    def __init__(self, error: httpx.HTTPError, clock: Clock, until: float) -> None:
        nodes = [{"partition-id": p} for p in range(3)]
        super().__init__(Fakes(small_config()).app(), nodes)
        self._error, self._clock, self._until = error, clock, until

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        if self._clock.now < self._until:
            raise self._error
        return super().pull_messages(message_ids)


class Timed(InProcessGrid):
    """Node 1000 + p answers so many seconds after it was asked as ``seconds`` says."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        nodes = [{"partition-id": p} for p in range(len(seconds))]
        super().__init__(Fakes(small_config(), num_clients=len(seconds)).app(), nodes)
        self._clock, self.seconds = clock, list(seconds)
        self._ready: dict[str, float] = {}

    def push_messages(self, messages):  # type: ignore[no-untyped-def]
        messages = list(messages)
        names = list(super().push_messages(messages))
        for name, message in zip(names, messages, strict=True):
            takes = self.seconds[message.metadata.dst_node_id - 1000]
            self._ready[name] = self._clock.now + takes
        return names

    def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
        return super().pull_messages(m for m in message_ids if self._ready[m] <= self._clock.now)


def ask_timed(
    exchange: Exchange, waits: dict[int, Wait], *, needed: int = 1
) -> tuple[list[str], list[Reply]]:
    nodes = list(exchange.grid.get_node_ids())
    messages = new_messages(REQUEST, nodes, QUERY_IDENTITY)
    replies = list(exchange.ask(messages, 600.0, waits=waits, needed=needed).values())
    return [reply.reason for reply in replies], replies


def test_each_message_lives_as_long_as_it_is_waited_for() -> None:
    clock = Clock()
    exchange = clock.exchange(Timed(clock, 1.0, 50.0, 50.0))
    reasons, replies = ask_timed(exchange, {1001: Wait(30.0, 30.0), 1002: Wait(60.0, 60.0)})
    assert reasons == ["", "timeout", ""]
    assert replies[2].seconds == pytest.approx(50.0, abs=0.5)
    assert clock.now == pytest.approx(150.0, abs=0.5)
    assert exchange.owing() == set()


def test_the_others_do_not_wait_for_one_that_is_doubted() -> None:
    clock = Clock()
    exchange = clock.exchange(Timed(clock, 4.0, 3.0, 100.0))
    reasons, _ = ask_timed(exchange, {1002: Wait(120.0, 120.0, alone=2.0)})
    assert reasons == ["", "", "late"]
    assert clock.now == pytest.approx(109.0, abs=0.5)


@pytest.mark.parametrize(("takes", "reason", "seconds"), [(11.0, "", 11), (30.0, "late", 17)])
def test_one_that_is_doubted_has_its_usual_time(takes: float, reason: str, seconds: float) -> None:
    clock = Clock()
    exchange = clock.exchange(Timed(clock, 4.0, 3.0, takes))
    reasons, _ = ask_timed(exchange, {1002: Wait(120.0, 120.0, alone=12.0)})
    assert reasons == ["", "", reason]
    assert clock.now == pytest.approx(100.0 + seconds, abs=0.5)


def test_nobodys_wait_is_cut_short_that_is_needed() -> None:
    clock = Clock()
    exchange = clock.exchange(Timed(clock, 4.0, 50.0, 70.0))
    waits = {1001: Wait(60.0, 60.0, alone=0.0), 1002: Wait(60.0, 60.0, alone=0.0)}
    assert ask_timed(exchange, waits, needed=2)[0] == ["", "", "late"]
    assert clock.now == pytest.approx(155.0, abs=0.5)


def test_a_reply_after_its_round_is_dropped_counted_and_never_taken_for_the_next() -> None:
    clock = Clock()
    grid = Timed(clock, 1.0, 20.0)
    exchange = clock.exchange(grid)
    waits = {1001: Wait(120.0, 120.0, alone=0.0)}
    assert ask_timed(exchange, waits)[0] == ["", "late"]
    assert exchange.owing() == {1001}
    grid.seconds = [20.0, 20.0]
    # The reply to the first message comes while the second is under way.
    assert ask_timed(exchange, waits)[0] == ["", ""]
    assert exchange.owing() == set()
    (stray,) = exchange.strays()
    assert (stray.node_id, stray.message_type) == (1001, QUERY_IDENTITY)
    assert stray.seconds == pytest.approx(20.0, abs=0.5)
    assert exchange.strays() == []


def test_a_message_may_outlive_the_wait_for_its_reply() -> None:
    clock = Clock()
    exchange = clock.exchange(Timed(clock, 1.0, 80.0))
    assert ask_timed(exchange, {1001: Wait(30.0, 120.0)})[0] == ["", "timeout"]
    assert clock.now == pytest.approx(130.0, abs=0.5)
    assert exchange.owing() == {1001}
    clock.now = 181.0
    assert exchange.owing() == set()
    assert [stray.node_id for stray in exchange.strays()] == [1001]


@pytest.mark.parametrize(("takes", "seconds"), [(80.0, 80.0), (1e6, 120.0)])
def test_what_is_needed_is_waited_for_as_long_as_the_messages_live(
    takes: float, seconds: float
) -> None:
    clock = Clock()
    exchange = clock.exchange(Timed(clock, 1.0, takes, 1e6))
    waits = {1001: Wait(30.0, 120.0), 1002: Wait(30.0, 120.0)}
    ask_timed(exchange, waits, needed=2)
    assert clock.now == pytest.approx(100.0 + seconds, abs=0.5)


@pytest.mark.parametrize("error", failures_of_the_superlink()[:1], ids=repr)
def test_no_wait_is_cut_short_by_a_superlink_that_is_away(error: httpx.HTTPError) -> None:
    clock = Clock()
    exchange = clock.exchange(Away(error, clock, 170.0))
    waits = dict.fromkeys((1000, 1001, 1002), Wait(30.0, 120.0))
    assert ask_timed(exchange, waits)[0] == ["", "", ""]
    assert clock.now == pytest.approx(170.0, abs=1.0)


@pytest.mark.parametrize("ends", ["expires", "unreachable"])
def test_what_never_comes_is_owed_until_it_cannot_come(ends: str) -> None:
    clock = Clock()
    grid = Timed(clock, 1.0, 1e6)
    exchange = clock.exchange(grid)
    ask_timed(exchange, {1001: Wait(120.0, 120.0, alone=0.0)})
    assert exchange.owing() == {1001}
    if ends == "expires":
        clock.now = 221.0
    else:
        error = Error(ErrorCode.NODE_UNAVAILABLE, "")
        grid.pull_messages = lambda ids: [reply_to(name, error=error) for name in ids]  # type: ignore[method-assign]
    assert exchange.owing() == set()
    assert exchange.strays() == []


def reply_to(
    message_id: str, source: int = 1001, kind: str = QUERY_IDENTITY, error: Error | None = None
) -> Message:
    """Build a reply as it comes from the SuperLink."""
    asked = Message(REQUEST, source, kind)
    asked.metadata.__dict__["_message_id"] = message_id
    content = error if error is not None else RecordDict()
    return Message(content, reply_to=asked)


@pytest.mark.parametrize("wrong", ["another message", "another node", "another type"])
def test_what_answers_no_open_message_is_dropped_and_the_right_reply_counts(wrong: str) -> None:
    class Confusing(InProcessGrid):
        confused = False

        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            (name,) = message_ids
            if not self.confused:
                self.confused = True
                return [
                    {
                        "another message": reply_to("of-an-earlier-round", 1000),
                        "another node": reply_to(name, 1002),
                        "another type": reply_to(name, 1000, "train"),
                    }[wrong]
                ]
            return super().pull_messages([name])

    nodes = [{"partition-id": p} for p in range(3)]
    exchange, _ = exchange_of(Confusing(Fakes(small_config()).app(), nodes))
    replies = ask(exchange)
    assert [reply.reason for reply in replies.values()] == ["", "", ""]
    assert all(len(reply.content or {}) for reply in replies.values())
    assert exchange.strays() == [Stray(1000, QUERY_IDENTITY, None)]


def test_a_second_reply_to_a_message_is_dropped() -> None:
    class Twice(InProcessGrid):
        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            found = list(super().pull_messages(message_ids))
            return found + [reply_to(m.metadata.reply_to_message_id, 1001) for m in found[:1]]

    nodes = [{"partition-id": 1}, {"partition-id": 1}]
    grid = Twice(Fakes(small_config()).app(), nodes)
    del grid.contexts[1000]
    exchange, _ = exchange_of(grid)
    (reply,) = ask(exchange).values()
    assert reply.content is not None and len(reply.content)
    assert exchange.strays() == [Stray(1001, QUERY_IDENTITY, None)]


def test_sending_does_not_wait() -> None:
    fakes = Fakes(small_config(), silent={(QUERY_IDENTITY, 1)})
    exchange, clock = exchange_of(fakes.grid())
    sent = exchange.send(new_messages(REQUEST, [1000, 1001], QUERY_IDENTITY), 5.0)
    assert exchange.collect(sent).keys() == {1000}
    assert sent.keys() == {1001}
    assert clock.sleeps == []


def test_one_undecodable_reply_is_one_dropped_reply() -> None:
    class Breaking(InProcessGrid):
        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            replies = list(super().pull_messages(message_ids))
            if replies and replies[0].metadata.src_node_id == 1001:
                raise ValueError("secret bytes")
            return replies

    nodes = [{"partition-id": p} for p in range(3)]
    exchange, _ = exchange_of(Breaking(Fakes(small_config()).app(), nodes))
    assert [reply.reason for reply in ask(exchange).values()] == ["", "unreadable", ""]


@pytest.mark.parametrize("error", failures_of_the_superlink(), ids=repr)
def test_no_client_is_blamed_for_a_superlink_that_restarts(error: httpx.HTTPError) -> None:
    clock = Clock()
    exchange = clock.exchange(Away(error, clock, 103.0))
    assert [reply.reason for reply in ask(exchange).values()] == ["", "", ""]
    assert clock.now == pytest.approx(103.0, abs=0.5)


def test_a_superlink_that_stays_away_costs_the_timeout() -> None:
    clock = Clock()
    error = failures_of_the_superlink()[0]
    exchange = Exchange(Away(error, clock, math.inf), clock=clock, sleep=clock.sleep)
    assert [reply.reason for reply in ask(exchange).values()] == ["timeout"] * 3
    assert clock.now == pytest.approx(105.0)


def test_a_reply_that_is_far_too_large_is_not_kept() -> None:
    def swollen(partition: int, message: Message, answer: RecordDict) -> RecordDict:
        answer["more"] = ConfigRecord({"bytes": bytes(2**20)})
        return answer

    exchange, _ = exchange_of(Fakes(small_config(), scripts={(QUERY_IDENTITY, 1): swollen}).grid())
    first, large, last = ask(exchange).values()
    assert (first.reason, last.reason) == ("", "")
    assert large.content is None
    assert large.bytes_up > 2**20
    assert large.reason == f"bad-reply: it has {large.bytes_up} bytes"


def test_a_message_that_cannot_be_sent_is_unreachable() -> None:
    class Offline(InProcessGrid):
        def push_messages(self, messages):  # type: ignore[no-untyped-def]
            return list(super().push_messages(list(messages)))[1:]

    nodes = [{"partition-id": p} for p in range(2)]
    exchange, clock = exchange_of(Offline(Fakes(small_config()).app(), nodes))
    assert [reply.reason for reply in ask(exchange).values()] == ["unreachable", ""]
    assert clock.sleeps == []


@pytest.mark.parametrize("code", list(FailureCode))
def test_a_client_failure_arrives_as_its_code(code: FailureCode) -> None:
    failure = ClientFailure(code)
    deployment = f"{type(failure)}:<'{failure}'>"
    simulation = (
        "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'ray::ClientAppActor.run() "
        f"fedrsclip_core.wire.messages.ClientFailure: {failure}\n\nThe above exception was the "
        f"direct cause\nException ClientAppException occurred. Message: {failure}'>"
    )
    for reason in (deployment, simulation):
        error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
        assert failure_reason(error) == code.value


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (
            ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
            "<class 'KeyError'>:<'/home/a/secret'>",
            "internal",
        ),
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "ClientFailure'>:<'my-secret'>", "internal"),
        (ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding.", "crashed"),
        (ErrorCode.UNKNOWN, "ActorDiedError: The actor died", "crashed"),
        (ErrorCode.NODE_UNAVAILABLE, "Error: Node Unavailable", "unreachable"),
        (ErrorCode.MESSAGE_UNAVAILABLE, "expired", "timeout"),
        (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, "path", "app-not-loaded"),
        (ErrorCode.UNKNOWN, None, "internal"),
    ],
)
def test_other_errors_become_codes_without_their_text(
    code: int, text: str | None, expected: str
) -> None:
    assert failure_reason(Error(code, text)) == expected


def test_the_serialized_size_covers_the_content() -> None:
    exchange, _ = exchange_of(Fakes(small_config()).grid())
    small = Message(REQUEST, 1, QUERY_IDENTITY)
    large = Message(RecordDict({CONFIG: ConfigRecord({"x": "a" * 5000})}), 1, QUERY_IDENTITY)
    assert serialized_size(large) > 5000 > serialized_size(small) > 50
    assert exchange.now() == 100.0
