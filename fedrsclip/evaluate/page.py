"""The page of an evaluation: one file that opens without a network."""

from functools import partial
from pathlib import Path

import numpy as np

from fedrsclip.evaluate.lines import about
from fedrsclip.evaluate.measure import Evaluation
from fedrsclip.page.rendering import render_page
from fedrsclip.report.confusion import confused, confusion_map, confusion_table
from fedrsclip.report.drawing import (
    BLUE,
    DASHED,
    GREY,
    HALF,
    INK,
    VERMILLION,
    canvas,
    curve,
    drawing,
)
from fedrsclip.report.labels import elided
from fedrsclip.report.panel import Drawn, Table, panel
from fedrsclip.report.run_page import Headline
from fedrsclip_core.learning.diagnostics import BINS
from fedrsclip_core.runs.units import percent

_TEMPLATE = Path(__file__).resolve().parent / "templates" / "evaluation.html"
_ROW = 22
"""Pixels of a class among the bars."""


def render(found: Evaluation) -> str:
    """Return the page."""
    with drawing():
        halves = [
            panel("classes", "Each class", partial(_classes, found)),
            panel("confidence", "How sure, and how right", partial(_confidence, found)),
        ]
        confusion = panel("confusion", "Which classes are confused", partial(_confusion, found))
    matrix = found.answers.tally.confusion
    return render_page(
        _TEMPLATE,
        {
            "title": f"{found.data}: how good it is here",
            "about": f"{found.classifier}. {about(found)}.",
            "verdict": found.verdict,
            "headline": _headline(found),
            "halves": halves,
            "confusion": confusion,
            "pairs": confused(matrix, found.class_names),
        },
    )


def _headline(found: Evaluation) -> list[Headline]:
    low, high = found.answers.interval
    within = f"95 % interval {percent(low)} to {percent(high)}"
    own = "personalized" if found.personalized else "this classifier"
    shown = [
        Headline(own, percent(found.answers.accuracy), within),
        Headline("macro-F1", percent(found.answers.macro_f1), "mean over the classes"),
        Headline(
            "calibration error",
            percent(found.answers.calibration_error),
            "gap of confidence and accuracy",
        ),
    ]
    if found.zero_shot is None:
        return shown
    alone = Headline("zero-shot", percent(found.zero_shot.accuracy), "CLIP's own words")
    return [alone, *shown]


def _classes(found: Evaluation) -> Drawn | str:
    """Draw each class's recall, and that of the CLIP alone."""
    classes = [one for one in found.classes if one.images]
    drawn = canvas(HALF[0], max(HALF[1], 60 + _ROW * len(classes)))
    axes = drawn.axes(x="recall, %", grid="x")
    rows = range(len(classes))
    own = [100 * (one.recall or 0) for one in classes]
    bars = axes.barh(rows, own, 0.6, color=BLUE, label="this classifier")
    for row, (bar, one) in enumerate(zip(bars, classes, strict=True)):
        drawn.name(bar, f"recall-{row}", [f"{one.name}: {percent(one.recall)} %"])
    alone = [one.zero_shot_recall for one in classes]
    if found.zero_shot is not None:
        marks = axes.scatter(
            [100 * (value or 0) for value in alone],
            list(rows),
            s=36,
            color=VERMILLION,
            marker="D",
            zorder=4,
            clip_on=False,
            label="CLIP's own words",
        )
        tips = [
            f"{one.name}, CLIP's own words: {percent(one.zero_shot_recall)} %" for one in classes
        ]
        drawn.name(marks, "zero-shot", tips)
    axes.set_yticks(list(rows), [elided(one.name) for one in classes], color=INK)
    axes.set(xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5))
    drawn.legend(2)
    header = ("class", "images", "precision", "recall", "F1", "CLIP's recall")
    table = [
        (
            one.name,
            str(one.images),
            *map(percent, (one.precision, one.recall, one.f1, one.zero_shot_recall)),
        )
        for one in classes
    ]
    return Drawn(
        drawn,
        f"Recall of {len(classes)} classes.",
        Table(header, table),
        "Which part of a class's images is known as it. Precision and F1 are in the table.",
    )


def _confidence(found: Evaluation) -> Drawn | str:
    """Draw accuracy over confidence, a dot per bin."""
    count, confidence, correct = found.answers.tally.calibration.T
    filled = np.flatnonzero(count)
    drawn = canvas(*HALF)
    axes = drawn.axes(x="confidence, %", y="right, %", grid="both")
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=DASHED, linewidth=1.5, zorder=1)
    x = [100 * confidence[b] / count[b] for b in filled]
    y = [100 * correct[b] / count[b] for b in filled]
    line = curve(axes, x, y, BLUE, "o")
    says = [
        f"{count[b]:.0f} images, {confidence_:.1f} % sure, {right:.1f} % right"
        for b, confidence_, right in zip(filled, x, y, strict=True)
    ]
    drawn.name(line, "bins", says)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    rows = [
        (f"{100 * b / BINS:.0f} to {100 * (b + 1) / BINS:.0f}", f"{count[b]:.0f}", *values)
        for b, *values in zip(filled, [f"{v:.1f}" for v in x], [f"{v:.1f}" for v in y], strict=True)
    ]
    return Drawn(
        drawn,
        f"Accuracy by confidence; calibration error {percent(found.answers.calibration_error)} %.",
        Table(("confidence, %", "images", "mean confidence", "right, %"), rows),
        "On the dashed line the classifier is as right as it is sure; below it, it is too sure.",
    )


def _confusion(found: Evaluation) -> Drawn | str:
    matrix, names = found.answers.tally.confusion, found.class_names
    return Drawn(
        confusion_map(matrix, names),
        f"Confusion matrix: {int(matrix.trace())} of {matrix.sum()} images are right.",
        confusion_table(matrix, names),
        "Blue is right, red is wrong; the stronger, the more of a row's images.",
    )
