"""A run that has ended, as far as it may be published: nothing that names a client or a place."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedrsclip.data.specs import SPEC_NAMES, DatasetSpec, find_spec
from fedrsclip_core.config.overrides import split_overrides
from fedrsclip_core.errors import ConfigError, ModelError, RunError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.records import (
    Accuracies,
    Description,
    Results,
    RoundRecord,
    UnreadableError,
)
from fedrsclip_core.runs.run_folder import COMPLETED, RunFolder
from fedrsclip_core.runs.shared_prompt import NoSharedPromptError, SharedPrompt, read_shared_prompt

_SETS = {"eurosat_ms": ("eurosat",), "union": ("optimal31", "uc_merced", "nwpu_resisc45")}
"""Options of ``data`` that are made of known data sets of other names."""
_GENERATED = "demo_scenes"


@dataclass(frozen=True)
class Figures:
    """Accuracies on test images at the end of a run, as fractions; ``None`` where unknown.

    Attributes
    ----------
    images : int
        Test images of all clients together.
    zero_shot : float or None
        Of the CLIP alone.
    shared : float or None
        Of what is published.
    personalized : float or None
        The clients' mean, each with its private side.
    """

    images: int
    zero_shot: float | None
    shared: float | None
    personalized: float | None


@dataclass(frozen=True)
class Finished:
    """What of a completed run may be published.

    Attributes
    ----------
    folder : RunFolder
        The run's own.
    prompt : SharedPrompt
        What it shares.
    config : dict[str, Any]
        Its configuration, by dotted key.
    figures : Figures or None
        ``None`` if nobody evaluated at its end.
    clients : int
        How many there were.
    rounds : int
        Rounds that they trained.
    versions : dict[str, str or None]
        Of the packages, by name.
    sets : tuple of DatasetSpec
        Known data sets that the images were of.
    """

    folder: RunFolder
    prompt: SharedPrompt
    config: dict[str, Any]
    figures: Figures | None
    clients: int
    rounds: int
    versions: dict[str, str | None]
    sets: tuple[DatasetSpec, ...]

    @property
    def generated(self) -> bool:
        """Whether the images were the demo's, which nobody owns."""
        return bool(self.config.get("data.name") == _GENERATED)


def read_finished(given: str) -> Finished:
    """Read a completed run.

    Parameters
    ----------
    given : str
        Its name here, or its folder.

    Raises
    ------
    ConfigError
        If it can be neither.
    RunError
        If there is no such run, it has not completed, a file is damaged, or nothing is shared.
    ModelError
        If what it shares is damaged or has no class names.
    """
    folder = _folder(given)
    state = folder.state()
    if state.word != COMPLETED:
        reason = f" ({state.reason})" if state.reason else ""
        raise RunError(f"run {folder.name} is {state.word}{reason}: publish one that is completed")
    try:
        about, results = folder.description(), folder.results()
    except UnreadableError as error:
        raise RunError(f"{folder.path}: {error}; copy the file from where the run was") from error
    if about is None or results is None:
        raise RunError(f"{folder.path} lacks run.json: it is no whole folder of a run")
    return Finished(
        folder=folder,
        prompt=_prompt(folder),
        config=about["config"],
        figures=_figures(results),
        clients=results["num_clients"],
        rounds=results["rounds"],
        versions=results["versions"],
        sets=_sets(about),
    )


def _folder(given: str) -> RunFolder:
    place = paths.place(given, "the run")
    folder = RunFolder(place.resolve())
    if not folder.has_begun() and place.name == given:
        folder = RunFolder.named(given)
    if not folder.has_begun():
        raise RunError(
            f"there is no run at {place}, nor one of that name in {paths.runs_dir()}: publish at "
            "the server, with its FEDRSCLIP_HOME"
        )
    return folder


def _prompt(folder: RunFolder) -> SharedPrompt:
    try:
        prompt = read_shared_prompt(folder.shared_prompt)
    except FileNotFoundError:
        raise RunError(
            f"run {folder.name} shares nothing: its method trains private prompts alone, which "
            "are published by nobody"
        ) from None
    except NoSharedPromptError as error:
        raise ModelError(f"{folder.shared_prompt} {error}") from error
    if not prompt.class_names:
        raise ModelError(
            f"run {folder.name} names no classes, for its server did not know them: train with "
            "data.class_names set"
        )
    return prompt


def _figures(results: Results) -> Figures | None:
    test = results["last"]["test"] if results["last"] else None
    if test is None or not test["images"]:
        return None
    personal = test["personalized"]
    return Figures(
        test["images"],
        results["zero_shot"]["test"],
        test["global"],
        personal["mean"] if personal else None,
    )


def _sets(about: Description) -> tuple[DatasetSpec, ...]:
    """Return the known data sets that were chosen by name."""
    from fedrsclip_core.config.compose import choices

    try:
        chosen = choices(split_overrides(about["overrides"]))["data"]
    except ConfigError:  # of a version that had other keys
        return ()
    names = _SETS.get(chosen, (chosen,))
    return tuple(find_spec(name) for name in names if name in SPEC_NAMES)


def picture_of(folder: Path) -> bytes | None:
    """Return the shared side's accuracy over rounds as PNG, ``None`` if nothing was evaluated.

    How far the clients lie apart, which a run's own picture shows, is theirs.
    """
    from fedrsclip.report.drawing import drawing
    from fedrsclip.report.panel import NOT_AS_EXPECTED, to_png
    from fedrsclip.report.reading import read_run
    from fedrsclip.report.run_accuracy import over_rounds

    run = read_run(folder)
    run = replace(run, records=tuple(map(_shared_alone, run.records)))
    with drawing():
        try:
            drawn = over_rounds(run)
            return None if isinstance(drawn, str) else to_png(drawn.canvas, run.name)
        except NOT_AS_EXPECTED:  # a line of metrics.jsonl is of another version
            return None


def _shared_alone(record: RoundRecord) -> RoundRecord:
    """Return a round's record without the clients' personalized accuracies."""
    test = record["test"]
    if test is None:
        return record
    alone: Accuracies = {**test, "personalized": None, "personalized_own": None}
    return {**record, "test": alone}
