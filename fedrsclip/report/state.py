"""Whether a run is running, and how it ended if it is not, in a sentence for its page."""

from dataclasses import dataclass

from fedrsclip.report.files import without_paths
from fedrsclip_core.runs import run_folder
from fedrsclip_core.runs.run_folder import FAILED, INTERRUPTED, RUNNING


@dataclass(frozen=True)
class State:
    """A word for a run's state, and a sentence if there is more to say."""

    word: str
    sentence: str = ""


def state_of(state: run_folder.State) -> State:
    """Return what the page says of a run's state."""
    sentences = {
        RUNNING: "This run is running; the report shows it as far as it has come.",
        FAILED: f"This run failed: {without_paths(state.reason)}.",
        INTERRUPTED: f"This run was interrupted: the report shows the rounds that it completed; "
        f"{state.reason}.",
    }
    return State(state.word, sentences.get(state.word, ""))
