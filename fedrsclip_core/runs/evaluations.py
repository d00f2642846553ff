"""What a client keeps of a run's final evaluation: one file per client, for its owner alone."""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import fileio, paths
from fedrsclip_core.runs.records import UnreadableError, read_object

FORMAT = "fedrsclip-evaluation-1"


class Evaluation(TypedDict):
    """A client's evaluation.

    ``parts`` has a tally by part and mode (``learning.diagnostics``); ``logit_scale`` is the
    inverse temperature that fits the personalized classifier's confidences to the client's
    validation images.
    """

    format: str
    run: str
    client: str
    round: int
    class_names: list[str]
    logit_scale: NotRequired[float]
    parts: dict[str, dict[str, dict[str, Any]]]


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write ``<folder>/<client>.json``.

    Raises
    ------
    OSError
        If the disk is full or not writable; an earlier evaluation is then intact.
    """
    text = fileio.to_json(evaluation) + "\n"
    fileio.write_text(folder / f"{evaluation['client']}.json", text, mode=0o600)


def read_evaluation(
    folder: Path, client: str, run: str, server_round: int | None
) -> Evaluation | None:
    """Return what a client kept; ``None`` if it kept nothing.

    Raises
    ------
    UnreadableError
        If the file is damaged, or of another run or round, or the name is none.
    """
    try:
        paths.safe_name(client, "a client")
    except ConfigError as error:
        raise UnreadableError("results.json", "is damaged", str(error)) from None
    found = read_object(folder / f"{client}.json", Evaluation)
    if found is None or (found["format"], found["run"], found["round"]) == (
        FORMAT,
        run,
        server_round,
    ):
        return found
    raise UnreadableError(f"{client}.json", "differs", f"it is not of round {server_round}")
