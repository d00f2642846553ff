"""Send messages and collect the replies, one by one, within a time limit."""

import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from fedrsclip_core.wire.messages import FailureCode
from server_app.flower_internals import ErrorCode, TransportError, bound_pulls, sent_objects

TIMEOUT = "timeout"
LATE = FailureCode.LATE.value
UNREACHABLE = "unreachable"
UNREADABLE = "unreadable"
CRASHED = "crashed"

_FIRST_PAUSE, LAST_PAUSE = 0.05, 0.5
_PROGRESS_EVERY = 30.0
_GRACE = 5.0
"""Seconds after the others for whom nobody need wait: a SuperNode asks every 3 seconds."""
_REST_OF_A_REPLY, _LAST_PULL_PAUSE = 10.0, 1.0
_MORE_THAN_SENT = 2**20
"""Bytes by which a reply may exceed what was sent: prompts have one size, the rest are sums."""
_CODE = re.compile(r"(?:ClientFailure'>:<'|ClientFailure: |Message: )([a-z-]{1,40})")
_CODES_BY_ERROR = {
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION: "app-not-loaded",
    ErrorCode.MESSAGE_UNAVAILABLE: TIMEOUT,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: TIMEOUT,
    ErrorCode.NODE_UNAVAILABLE: UNREACHABLE,
    ErrorCode.INVALID_FAB: "app-not-loaded",
    ErrorCode.CLIENT_APP_CRASHED: CRASHED,
}


@dataclass(frozen=True)
class Reply:
    """What came back from one node.

    Attributes
    ----------
    content : RecordDict or None
        The records, unchecked; ``None`` if there are none.
    reason : str
        Why there are none: a code of a closed list, never the client's own words.
    bytes_down, bytes_up : int
        Serialized sizes of the message to and from the node; ``bytes_up`` is 0 without a reply.
    seconds : float
        From the message to the reply.
    """

    content: RecordDict | None
    reason: str
    bytes_down: int
    bytes_up: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Pending:
    """A message whose reply is not there yet: id and type, when it was sent and expires, bytes."""

    message_id: str
    message_type: str
    sent: float
    expires: float
    bytes_down: int


@dataclass(frozen=True)
class Wait:
    """How long one reply is waited for.

    Attributes
    ----------
    limit : float
        Seconds.
    lives : float
        Seconds after which the message expires: a reply that comes until then is heard of.
    alone : float or None
        Seconds from the start after which the others are not kept waiting for this one; ``None``:
        they are until its limit.
    """

    limit: float
    lives: float
    alone: float | None = None


_FULL = Wait(math.inf, math.inf)


@dataclass(frozen=True)
class Stray:
    """A reply that was dropped because it is out of step.

    Attributes
    ----------
    node_id : int
        Which node was asked.
    message_type : str
        What it was asked.
    seconds : float or None
        From its message to the reply, if that came after its round; ``None``: it answers no open
        message.
    """

    node_id: int
    message_type: str
    seconds: float | None


class Exchange:
    """The only place that sends and receives.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    clock : Callable[[], float]
        A monotonic clock in seconds.
    sleep : Callable[[float], None]
        Pauses between two looks for replies.
    at_once : int, optional
        How many messages :meth:`ask` has under way at most; without it, all. Flower's simulation
        looks through all of them for each of its nodes, again and again: its work for N clients
        grows with N times this number.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        at_once: int | None = None,
    ) -> None:
        bound_pulls(_REST_OF_A_REPLY, _LAST_PULL_PAUSE)
        self.grid = grid
        self._at_once = at_once
        self._clock = clock
        self._sleep = sleep
        self._away = False
        self._owed: dict[int, Pending] = {}
        self._strays: list[Stray] = []

    def now(self) -> float:
        """Return the time of the exchange's own clock."""
        return self._clock()

    def pause(self, seconds: float) -> None:
        """Wait."""
        self._sleep(seconds)

    def online(self) -> set[int]:
        """Return the nodes that Flower holds to be connected."""
        return set(self.grid.get_node_ids())

    def send(self, messages: Sequence[Message], timeout: float) -> dict[int, Pending]:
        """Send at most one message to each node and do not wait.

        Parameters
        ----------
        messages : Sequence[Message]
            To different nodes; their time to live is set to ``timeout``.
        timeout : float
            Seconds.

        Returns
        -------
        dict[int, Pending]
            By node id, without those that could not be sent.
        """
        for message in messages:
            message.metadata.ttl = timeout
        return self._send(messages)[0]

    def collect(self, pending: dict[int, Pending]) -> dict[int, Reply]:
        """Take from ``pending`` what was answered or has expired; return it by node id."""
        replies = {}
        for node_id, sent in list(pending.items()):
            answer = self._pull(node_id, sent)
            now = self._clock()
            if answer is not None:
                reply = _as_reply(answer, sent.bytes_down)
            elif now >= sent.expires:
                reply = Reply(None, TIMEOUT, sent.bytes_down, 0)
            else:
                continue
            replies[node_id] = replace(reply, seconds=now - sent.sent)
            del pending[node_id]
        return replies

    def owing(self) -> set[int]:
        """Return the nodes that still have a message of an exchange that is over.

        They would answer that one first. A reply that has come is dropped here.
        """
        for node_id, sent in list(self._owed.items()):
            reply = self.collect(one := {node_id: sent}).get(node_id)
            if reply is not None and reply.reason not in (TIMEOUT, UNREACHABLE):
                self._strays.append(Stray(node_id, sent.message_type, reply.seconds))
            if not one:
                del self._owed[node_id]
        return set(self._owed)

    def strays(self) -> list[Stray]:
        """Return what was dropped since the last call because it was out of step."""
        found, self._strays = self._strays, []
        return found

    def ask(
        self,
        messages: Sequence[Message],
        timeout: float,
        progress: Callable[[int, int], None] | None = None,
        *,
        waits: Mapping[int, Wait] = MappingProxyType({}),
        needed: int = 0,
    ) -> dict[int, Reply]:
        """Send at most one message to each node and wait for the replies.

        Parameters
        ----------
        messages : Sequence[Message]
            To different nodes; they live until ``timeout`` is over.
        timeout : float
            Seconds until what has not come is given up.
        progress : Callable[[int, int], None], optional
            Is told from time to time how many of how many replies are there.
        waits : Mapping[int, Wait]
            By node id, for whom to wait less.
        needed : int
            Replies with content below which nobody's wait is cut short.

        Returns
        -------
        dict[int, Reply]
            One reply per message by node id, in the order of ``messages``.
        """
        replies = {m.metadata.dst_node_id: Reply(None, TIMEOUT, 0, 0) for m in messages}
        unsent, waiting = deque(messages), dict[int, Pending]()
        begin = told = alone = self._clock()
        deadline, pause, outage = begin + timeout, _FIRST_PAUSE, 0.0
        while True:
            replies |= self._fill(unsent, waiting, deadline, waits)
            before = self._clock()
            replies |= self.collect(waiting)
            self.owing()
            now = self._clock()
            outage += now - before
            if waits and sum(r.content is not None for r in replies.values()) >= needed:
                if unsent or any(waits.get(n, _FULL).alone is None for n in waiting):
                    alone = now
                replies |= self._give_up(waiting, waits, begin, alone, outage)
            else:
                alone = now
            if not waiting and (not unsent or now >= deadline):
                return replies
            done = len(messages) - len(waiting) - len(unsent)
            if progress is not None and now - told >= _PROGRESS_EVERY:
                told = now
                progress(done, len(messages))
            # Nobody may be without work because the next message was not sent in time.
            awaited = len(waiting) - (self._at_once or 0) // 2 if unsent else len(waiting)
            if awaited <= 0:
                continue
            rest = _expected_rest(now - begin, done, awaited)
            self._sleep(max(0.0, min(pause, rest, deadline - now)))
            outage += self._clock() - now if self._away else 0.0
            pause = min(1.5 * pause, LAST_PAUSE)

    def _give_up(
        self,
        waiting: dict[int, Pending],
        waits: Mapping[int, Wait],
        begin: float,
        alone: float,
        outage: float,
    ) -> dict[int, Reply]:
        """Stop waiting for those whose time is over; the others have been in since ``alone``.

        Nobody is blamed for seconds in which the SuperLink could not be asked.
        """
        now = self._clock()
        reasons = {}
        for node_id in waiting:
            wait = waits.get(node_id, _FULL)
            if now - begin - outage >= wait.limit:
                reasons[node_id] = TIMEOUT
            elif wait.alone is not None and now >= max(alone, begin + wait.alone) + _GRACE:
                reasons[node_id] = LATE
        for node_id in reasons:
            self._owed[node_id] = waiting.pop(node_id)
        return {n: Reply(None, why, self._owed[n].bytes_down, 0) for n, why in reasons.items()}

    def _fill(
        self,
        unsent: deque[Message],
        waiting: dict[int, Pending],
        deadline: float,
        waits: Mapping[int, Wait],
    ) -> dict[int, Reply]:
        """Send as many as may be under way; return those that could not be sent."""
        room = len(unsent) if self._at_once is None else self._at_once - len(waiting)
        left = deadline - self._clock()
        if room <= 0 or left <= 0:
            return {}
        next_ones = [unsent.popleft() for _ in range(min(room, len(unsent)))]
        for message in next_ones:
            wait = waits.get(message.metadata.dst_node_id, _FULL)
            message.metadata.ttl = min(left, wait.lives)
            # It lives from now on: it may have waited longer than that for its turn.
            message.metadata.created_at = time.time()
        sent, sizes = self._send(next_ones)
        waiting |= sent
        return {n: Reply(None, UNREACHABLE, sizes[n], 0) for n in sizes if n not in sent}

    def _send(self, messages: Sequence[Message]) -> tuple[dict[int, Pending], dict[int, int]]:
        """Send; return what is pending and, also of what could not be sent, the bytes."""
        now = self._clock()
        sizes = {m.metadata.dst_node_id: serialized_size(m) for m in messages}
        accepted = set(self.grid.push_messages(list(messages)))
        pending = {
            m.metadata.dst_node_id: Pending(
                m.metadata.message_id,
                m.metadata.message_type,
                now,
                now + m.metadata.ttl,
                sizes[m.metadata.dst_node_id],
            )
            for m in messages
            if m.metadata.message_id in accepted
        }
        return pending, sizes

    def _pull(self, node_id: int, sent: Pending) -> Message | Error | None:
        """Look for one reply: a reply that cannot be decoded must not cost the others theirs.

        What answers another message, or comes from another node, is dropped, and so is a second
        reply to the same message.

        Where the SuperLink cannot be asked, for example because it is being restarted, there is
        no reply yet. Flower's grid itself repeats most of what fails on the way, but neither a
        TLS handshake nor an answer with status 500.
        """
        try:
            found = list(self.grid.pull_messages([sent.message_id]))
        except TransportError:
            self._away = True
            return None
        except Exception:  # whatever the bytes provoke
            return Error(ErrorCode.UNKNOWN, UNREADABLE)
        self._away = False
        in_step = [message for message in found if _answers(message, node_id, sent)]
        for _ in range(len(found) - len(in_step[:1])):
            self._strays.append(Stray(node_id, sent.message_type, None))
        return in_step[0] if in_step else None


def _answers(message: Message, node_id: int, sent: Pending) -> bool:
    """Whether a message is the reply to another; an error may come from Flower itself."""
    metadata = message.metadata
    if metadata.reply_to_message_id != sent.message_id:
        return False
    return message.has_error() or (
        metadata.src_node_id == node_id and metadata.message_type == sent.message_type
    )


def _expected_rest(elapsed: float, replies: int, waiting: int) -> float:
    """Seconds until the last reply if they go on to come as often: the round ends with it."""
    return max(_FIRST_PAUSE, elapsed * waiting / replies) if replies else LAST_PAUSE


def serialized_size(message: Message) -> int:
    """Return how many bytes Flower sends for a message."""
    return sum(map(len, sent_objects(message)))


def new_messages(content: RecordDict, node_ids: Iterable[int], message_type: str) -> list[Message]:
    """Build the same message for several nodes."""
    return [Message(content, node_id, message_type) for node_id in node_ids]


def failure_reason(error: Error) -> str:
    """Reduce an error reply to a code; the client's own words are not repeated.

    Flower puts the text of an exception into the reply. A :class:`ClientFailure` carries a code
    of a closed list there; everything else is ``internal``, or ``crashed`` where the client's
    process is gone.
    """
    if error.code in _CODES_BY_ERROR:
        return _CODES_BY_ERROR[error.code]
    text = error.reason or ""
    if text == UNREADABLE:
        return UNREADABLE
    known = [word for word in _CODE.findall(text) if word in set(FailureCode)]
    if known:
        return str(known[-1])
    return CRASHED if "ActorDied" in text else FailureCode.INTERNAL.value


def _as_reply(answer: Message | Error, bytes_down: int) -> Reply:
    if isinstance(answer, Error):
        return Reply(None, failure_reason(answer), bytes_down, 0)
    try:
        if answer.has_error():
            return Reply(None, failure_reason(answer.error), bytes_down, serialized_size(answer))
        arrays = sum(len(a.data) for r in answer.content.array_records.values() for a in r.values())
        if arrays > bytes_down + _MORE_THAN_SENT:
            # Neither serialized to be measured nor kept until the other replies are there.
            return Reply(None, f"bad-reply: it has {arrays} bytes of arrays", bytes_down, arrays)
        bytes_up = serialized_size(answer)
        if bytes_up > bytes_down + _MORE_THAN_SENT:
            return Reply(None, f"bad-reply: it has {bytes_up} bytes", bytes_down, bytes_up)
        return Reply(answer.content, "", bytes_down, bytes_up)
    except Exception:  # a record that Flower could receive but not serialize again
        return Reply(None, UNREADABLE, bytes_down, 0)
