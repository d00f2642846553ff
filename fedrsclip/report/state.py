"""Whether a run goes on, and how it ended if it does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrsclip_core.runs import run_folder as runs


@dataclass(frozen=True)
class State:
    """A word for a run's state, and a sentence if there is more to say."""

    word: str
    sentence: str = ""


def state_of(folder: Path, results: Mapping[str, Any] | None) -> State:
    """Return the state of the run in ``folder``; ``results`` is its ``results.json``."""
    if runs.is_held(folder):
        return State("going on", "This run goes on; the report shows it as far as it has come.")
    if results is None:
        return State(
            "interrupted",
            "This run was interrupted: the report shows the rounds that it completed. "
            f"fedrsclip run resume={folder.name} goes on with it; in a deployment submit it again "
            "with run.resume=true.",
        )
    if results["status"] == "completed":
        return State("completed")
    return State("failed", f"This run failed: {results['reason']}.")
