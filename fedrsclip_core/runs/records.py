"""What the JSON files of a run's folder hold, as types, and whether a value is of such a type."""

import json
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from fedrsclip_core.errors import RunError

T = TypeVar("T")

Way = Literal["down", "up"]
WAYS: tuple[Way, ...] = ("down", "up")
"""To the clients and back."""

Part = Literal["val", "test"]
PARTS: tuple[Part, ...] = ("val", "test")
"""Images on which a client evaluates."""

ELSEWHERE = object()
"""Marks what is not checked with its file, because whoever shows it does without it if need be."""

_LARGEST_INTEGER, _LARGEST_FLOAT = 2**64, 1e100
"""No number of a run reaches it, and arithmetic on what is below stays finite."""
_DEEPEST = 20
"""Levels of lists and objects inside each other; a run's files have six."""


class Replies(TypedDict):
    """Clients of one exchange."""

    asked: int
    valid: int
    dropped: dict[str, str]  # why, by client
    out_of_step: NotRequired[dict[str, int]]  # replies that answered no open message, by client


class Volume(TypedDict):
    """Bytes in one direction."""

    payload: int  # what is shared alone
    message: int


class ClientVolume(TypedDict):
    """Bytes of the messages to and from one client."""

    down: int
    up: int


class Traffic(TypedDict):
    """Bytes of a round, evaluations included."""

    down: Volume
    up: Volume
    clients: dict[str, ClientVolume]


class Spread(TypedDict):
    """Accuracies of the clients that have images, as fractions; ``pooled`` is over all images."""

    mean: float
    std: float
    worst: float
    best: float
    pooled: float | None
    clients: int


# One of the keys is a keyword.
Accuracies = TypedDict(
    "Accuracies",
    {
        "images": int,
        "zero_shot": float | None,
        "global": float | None,
        "personalized": Spread | None,
        "personalized_own": Spread | None,
    },
)
"""Accuracies on one part of the images, as fractions; ``None`` is a mode without a meaning."""


class Evaluated(TypedDict):
    """What an evaluation of a round found; all is ``None`` if nobody evaluated."""

    sampled: bool | None
    """Whether only some clients evaluated."""
    clients_evaluated: int
    clients_without_images: dict[str, int] | None
    val: Accuracies | None
    test: Accuracies | None


class RoundRecord(Evaluated):
    """A round: a line of ``metrics.jsonl``; round 0 is the evaluation of the start."""

    round: int
    seconds: float
    eval_seconds: float | None
    """Of an evaluation of its own; ``None`` if the next train message brought it, or nobody did."""
    final: bool
    failure: str
    """Why the round does not count; empty if it does."""
    clients: Replies
    eval_dropped: dict[str, str]
    num_examples: int
    loss: dict[str, float | None] | None
    bytes: Traffic


class ClientResult(TypedDict):
    """A client at the end of a run; ``last`` has its accuracies by part and mode."""

    name: str
    partition_id: int
    num_train: int
    num_val: int
    num_test: int
    label_counts: list[int] | None
    last: Annotated[dict[str, dict[str, float | None]] | None, ELSEWHERE]


class Dropped(TypedDict):
    """Replies that did not count: in all, and how often by client and reason."""

    total: int
    clients: dict[str, dict[str, int]]


class MeanVolume(TypedDict):
    """Mean bytes of a message to and from a client; ``None`` if there was none."""

    down: float | None
    up: float | None


class TotalTraffic(Traffic):
    """Bytes of a run, and the mean size of a message to and from a client in a round."""

    per_client_round: MeanVolume


class PartAccuracy(TypedDict):
    """One mode's accuracy on each part, as a fraction."""

    val: float | None
    test: float | None


class Ending(TypedDict):
    """How a run has ended: as much of ``results.json`` as its state needs."""

    status: str
    reason: NotRequired[str | None]


class Results(TypedDict):
    """The summary of a run: ``results.json``."""

    status: str
    reason: str | None
    method: str
    seed: int
    run: str
    num_rounds: int
    rounds: int
    num_clients: int
    zero_shot: PartAccuracy
    initial: RoundRecord | None
    last: RoundRecord | None
    val_best: RoundRecord | None
    calibrated_factor: NotRequired[float | None]
    clients: list[ClientResult]
    refused: dict[str, str]
    dropped: Dropped
    failed_rounds: list[int]
    bytes: TotalTraffic
    seconds: float
    digests: dict[str, str | None]
    versions: dict[str, str | None]


# The keys have dots.
_Read = TypedDict(
    "_Read",
    {
        "data.class_aliases": dict[str, str] | None,
        "data.class_names": list[str] | None,
        "data.name": str,
        "federation.connect_timeout": float,
        "federation.name": str,
        "federation.num_clients": int,
        "federation.num_rounds": int,
        "federation.prepare_timeout": float,
        "federation.round_timeout": float | None,
        "method": str,
        "model.name": str,
        "partition.name": str,
        "privacy.share_label_counts": bool,
        "seed": int,
    },
    total=False,
)
"""Keys of a configuration by which readers decide or count; those of other versions may lack."""


class Description(TypedDict):
    """What a run was started with: ``run.json``; ``config`` has dotted keys, without site keys."""

    run: str
    flower_run_ids: list[int]
    overrides: str
    config: Annotated[dict[str, Any], _Read]


class SplitPart(TypedDict):
    """Images of one part: how many, by class, and the digest of their sorted indices."""

    count: int
    per_class: list[int]
    sha256: str


class SplitRecord(TypedDict):
    """Which images are in which part and at which client: ``split.json``."""

    format: int
    digest: str | None
    images: str
    num_images: int
    seed: int
    val_fraction: float
    test_fraction: float
    near_duplicates: list[list[str]]
    partition: dict[str, Any]
    class_names: list[str]
    parts: dict[str, SplitPart]
    clients: list[dict[str, SplitPart]]


class UnreadableError(RunError):
    """A file that is there and cannot be used.

    Attributes
    ----------
    file : str
        Its name.
    what, why : str
        What is wrong, as in "is damaged", and how that is known.
    """

    def __init__(self, file: str, what: str, why: str) -> None:
        super().__init__(f"{file} {what}: {why}")
        self.file, self.what, self.why = file, what, why


def read_object(path: Path, kind: type[T]) -> T | None:
    """Return the object in a JSON file; ``None`` if there is no such file.

    Parameters
    ----------
    path : Path
        The file.
    kind : type
        A TypedDict, or a dict; keys that a TypedDict does not name stay in the object.

    Raises
    ------
    UnreadableError
        If the file cannot be read or holds anything else.
    """
    try:
        return parse_object(path.read_bytes(), path.name, kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableError(path.name, "cannot be read", str(error.strerror)) from None


def parse_object(text: bytes, file: str, kind: type[T]) -> T:
    """Return the object that a text from a file is.

    Raises
    ------
    UnreadableError
        If it is anything else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnreadableError(file, "is damaged", "it holds no JSON object")
    if unsound := _unsound(value):
        raise UnreadableError(file, "is damaged", unsound)
    if not conforms(value, kind):
        why = f"{_misfit(value, kind)} is missing or has another type" if is_typeddict(kind) else ""
        raise UnreadableError(file, "is damaged", why or "a value has another type")
    found: Any = value
    return found  # type: ignore[no-any-return]


def _unsound(value: object) -> str:
    """Say what no program has written there, whatever its key; empty if there is nothing."""
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                # Of a thousand clients there are millions of counts.
                if not (set(map(type, one)) == {int} and all(map(_is_small, (min(one), max(one))))):
                    inner += one
            elif isinstance(one, str) and not _can_be_written(one):
                return "it holds text that cannot be written"
            elif isinstance(one, int | float) and not _is_small(one):
                return "it holds a number that no run has"
        if not inner:
            return ""
        level = inner
    return "it is nested too deeply"


def _is_small(number: float) -> bool:
    # False for NaN, too.
    return abs(number) < (_LARGEST_FLOAT if isinstance(number, float) else _LARGEST_INTEGER)


def _can_be_written(text: str) -> bool:
    """Whether text is whole characters without a NUL, as any text file and any path wants it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _misfit(value: dict[str, Any], kind: Any) -> str | None:
    """Return the first key of a TypedDict that is missing or has another type."""
    for key, hint in _hints(kind).items():
        if not conforms(value[key], hint) if key in value else key in kind.__required_keys__:
            return key
    return None


def conforms(value: object, kind: Any) -> bool:
    """Whether a value of parsed JSON is of a type: a TypedDict, dict, list, union or scalar."""
    if kind is Any:
        return True
    if kind is None or kind is NoneType:
        return value is None
    if kind is float or kind is int:
        numbers = (int, float) if kind is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    if is_typeddict(kind):
        return isinstance(value, dict) and _misfit(value, kind) is None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if ELSEWHERE in arguments:
            return True
        return all(conforms(value, one) for one in arguments)
    if origin is NotRequired:
        return conforms(value, arguments[0])
    if origin in (Union, UnionType):
        return any(conforms(value, one) for one in arguments)
    if origin is list:
        return isinstance(value, list) and all(conforms(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(conforms(v, arguments[1]) for v in value.values())
    return isinstance(value, kind)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
