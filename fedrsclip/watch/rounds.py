"""``metrics.jsonl`` read while it grows: what is shown of each round."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip import report


@dataclass(frozen=True)
class Accuracies:
    """Accuracies on the test images, as fractions; ``None`` is not known.

    Attributes
    ----------
    zero_shot, global_, personalized, worst : float or None
        Of the template, of the shared prompt, the clients' mean, and the lowest of a client.
    sampled : bool
        Whether only some clients evaluated.
    """

    zero_shot: float | None
    global_: float | None
    personalized: float | None
    worst: float | None
    sampled: bool


@dataclass(frozen=True)
class Round:
    """One line of ``metrics.jsonl``.

    Attributes
    ----------
    server_round : int
        Its number; 0 is the evaluation of the start.
    line : str
        The round in a line for a person.
    seconds : float
        Training and evaluation together.
    asked, valid : int
        Clients that were asked to train, and valid replies.
    lost : Mapping[str, str]
        Why a client's reply was dropped, by client, in training or evaluation.
    bytes_down, bytes_up, exchanged : int
        All messages' bytes, and the number of clients that they were exchanged with.
    test : Accuracies or None
        ``None`` if nobody evaluated.
    failure : str
        Why the round does not count; empty if it does.
    """

    server_round: int
    line: str
    seconds: float
    asked: int
    valid: int
    lost: Mapping[str, str]
    bytes_down: int
    bytes_up: int
    exchanged: int
    test: Accuracies | None
    failure: str


class RoundLog:
    """The rounds of a run, read from where the last look ended.

    Attributes
    ----------
    rounds : list[Round]
        The rounds so far.
    damaged : list[int]
        Numbers of whole lines that are no record of a round.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_anew()

    def _start_anew(self) -> None:
        self._offset = 0
        self._lines = 0
        self.rounds: list[Round] = []
        self.damaged: list[int] = []

    def read(self) -> None:
        """Read what was added; a last line that is not whole yet is left for the next look."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if self._path.stat().st_size < self._offset:  # a run that goes on cuts its tail off
                self._start_anew()
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._enter(line)

    def _enter(self, line: bytes) -> None:
        self._lines += 1
        try:
            self.rounds.append(round_of(json.loads(line)))
        except (ValueError, LookupError, TypeError, AttributeError):
            self.damaged.append(self._lines)


def round_of(record: Mapping[str, Any]) -> Round:
    """Return what is shown of a record; any ordinary exception says that it is none."""
    clients, traffic = record["clients"], record["bytes"]
    evaluated = record["test"] is not None
    return Round(
        server_round=int(record["round"]),
        line=report.round_line(record),
        seconds=record["seconds"] + (record["eval_seconds"] or 0.0),
        asked=int(clients["asked"]),
        valid=int(clients["valid"]),
        lost={**record["eval_dropped"], **clients["dropped"]},
        bytes_down=int(traffic["down"]["message"]),
        bytes_up=int(traffic["up"]["message"]),
        exchanged=len(traffic["clients"]),
        test=_accuracies(record["test"], bool(record["sampled"])) if evaluated else None,
        failure=str(record["failure"]),
    )


def _accuracies(test: Mapping[str, Any], sampled: bool) -> Accuracies:
    personalized = test["personalized"] or {"mean": None, "worst": None}
    return Accuracies(
        test["zero_shot"], test["global"], personalized["mean"], personalized["worst"], sampled
    )
