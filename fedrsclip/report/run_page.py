"""The page of one run: which panels it has, and its facts in words."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedrsclip.report import run_accuracy, run_rounds
from fedrsclip.report.confusion import Pair
from fedrsclip.report.drawing import drawing
from fedrsclip.report.panel import panel
from fedrsclip.report.reading import Run
from fedrsclip.report.run_accuracy import worst_pairs
from fedrsclip.report.thumbnails import thumbnails
from fedrsclip.run.submission import DEPLOY_KEYS
from fedrsclip_core.config.overrides import key_of
from fedrsclip_core.config.reading import Reading
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.runs.units import percent

_HALVES = {
    "accuracy": (
        ("steps", "From zero-shot to personalized", run_accuracy.steps),
        ("rounds", "Accuracy over rounds", run_accuracy.over_rounds),
    ),
    "clients": (
        ("clients", "Global against personalized", run_accuracy.clients),
        ("participation", "Whose answers counted", run_rounds.participation),
    ),
    "training": (
        ("losses", "Loss by term", run_rounds.losses),
        ("cosines", "What the constraints align", run_rounds.cosines),
    ),
    "costs": (
        ("traffic", "Bytes down and up", run_rounds.traffic),
        ("stages", "Seconds by stage", run_rounds.stages),
    ),
}
# A machine's paths and a federation's addresses are no part of what was done.
_OF_HOSTS = (*SITE_KEYS, *(f"federation.{key}" for key in DEPLOY_KEYS))
_NOT_REPEATED = ("run.name", "run.resume", *_OF_HOSTS)


@dataclass(frozen=True)
class Headline:
    """A figure in large: what it is, its value, what it is of."""

    label: str
    value: str
    note: str = ""


def run_page(run: Run, images: Path | None) -> dict[str, Any]:
    """Return what the template shows of a run.

    Raises
    ------
    DataError
        If ``images`` holds none.
    """
    with drawing():
        groups = {
            name: [panel(key, title, partial(draw, run)) for key, title, draw in parts]
            for name, parts in _HALVES.items()
        }
        partition = panel(
            "partition", "Who has which classes", partial(run_accuracy.partition, run)
        )
        confusion = panel(
            "confusion", "Which classes are confused", partial(run_accuracy.confusion, run)
        )
    pairs = worst_pairs(run)
    return {
        "kind": "run",
        "title": run.name,
        "about": _about(run),
        "state": run.state,
        "problems": run.problems,
        "headline": headline(run),
        **groups,
        "partition": partition,
        "confusion": confusion,
        "pairs": pairs,
        "thumbnails": _thumbnails(run, pairs, images),
        "dropped": run_rounds.dropped(run),
        "settings": settings(run.config),
        "digests": _pairs_of(run.digests),
        "versions": _pairs_of(run.results["versions"] if run.results else {}),
        "repeat": repeat_command(run),
        "reach": _reach(run),
    }


def headline(run: Run) -> list[Headline]:
    """Return the accuracies of the last evaluation, in large."""
    if not run.evaluated:
        return []
    _, test = run.evaluated[-1]
    personal = test["personalized"]
    mean, worst, note = None, None, "shared and private side"
    if personal is not None:
        mean, worst = personal["mean"], personal["worst"]
        note = f"± {percent(personal['std'])} over clients"
    values = (
        ("zero-shot", run_accuracy.zero_shot(run), "hand-written template"),
        ("global", test["global"], "shared side alone"),
        ("personalized", mean, note),
        ("worst client", worst, "personalized"),
    )
    return [Headline(label, percent(value), note) for label, value, note in values]


def settings(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the configuration by section; keys of one machine are never there."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in config.items():
        if key not in _OF_HOSTS:
            section, _, name = key.rpartition(".")
            sections.setdefault(section or "run", []).append((name, _shown(value)))
    return list(sections.items())


def repeat_command(run: Run) -> str:
    """Return the command that runs the same configuration again, without keys of one machine."""
    try:
        given = shlex.split(run.overrides)
    except ValueError:
        return ""
    kept = [text for text in given if key_of(text) not in _NOT_REPEATED]
    if not run.config:
        return ""
    return " ".join(["fedrsclip run", *(shlex.quote(text) for text in kept)])


def _about(run: Run) -> str:
    config = run.config
    if not config:
        return ""
    number = config.get("federation.num_clients")
    if run.results is not None:
        number = len(run.results["clients"]) or number
    done = max((record["round"] for record in run.records), default=0)
    return (
        f"{config.get('method')} on {config.get('data.name')} with {config.get('model.name')}, "
        f"{number} clients ({config.get('partition.name')}), seed {config.get('seed')}, "
        f"{done} of {config.get('federation.num_rounds')} rounds"
    )


def _reach(run: Run) -> str:
    """Say what has to be added to the command on another machine."""
    needed = [
        key
        for key, is_needed in (
            ("data.path", run.config.get("data.name") == "folder"),
            ("model.path", run.config.get("model.name") == "local"),
        )
        if is_needed
    ]
    if run.config.get("partition.name") == "site":
        return "The images were the sites' own: this run is repeated by submitting it to them."
    return f"Add {' and '.join(needed)} of your machine." if needed else ""


def _thumbnails(run: Run, pairs: Sequence[Pair], images: Path | None) -> dict[str, list[str]]:
    if images is None:
        return {}
    shown = [name for pair in pairs for name in (pair.true, pair.answered)]
    aliases = run.config.get("data.class_aliases") or {}
    # Earlier runs do not say how they read images.
    bands, stretch = (run.config.get(key) or () for key in ("data.bands", "data.stretch"))
    reading = Reading(tuple(bands), tuple(stretch), run.config.get("data.nodata"))
    known = run.config.get("data.class_names") or ()
    given = run.config.get("partition.name") == "given"
    return thumbnails(images, shown, aliases, reading, known=known, by_client=given)


def _pairs_of(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name, _shown(value)) for name, value in values.items()]


def _shown(value: object) -> str:
    if value is None or value == [] or value == {}:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
