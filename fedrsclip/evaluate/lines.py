"""An evaluation as plain text."""

from collections.abc import Iterator

from fedrsclip.evaluate.measure import Answers, Evaluation
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.lines import table
from fedrsclip_core.runs.units import counted, percent

_OVERALL = ("%", "accuracy", "95 % interval", "top 5", "macro-F1", "calibration error")
_CLASSES = ("class", "images", "precision", "recall", "F1", "CLIP's recall", "mostly taken for")


def lines_of(found: Evaluation) -> Iterator[str]:
    """Yield what a person reads of an evaluation."""
    yield found.classifier
    yield about(found)
    yield ""
    rows: list[tuple[str, ...]] = [_OVERALL]
    if found.zero_shot is not None:
        rows.append(_overall("CLIP's own words", found.zero_shot, error=None))
    own = "personalized" if found.personalized else "this classifier"
    rows.append(_overall(own, found.answers, error=found.answers.calibration_error))
    yield from table(rows)
    yield ""
    names = found.class_names
    classes = [one for one in found.classes if one.images]
    yield from table(
        [
            _CLASSES,
            *(
                (
                    printable(one.name),
                    str(one.images),
                    *map(percent, (one.precision, one.recall, one.f1, one.zero_shot_recall)),
                    "" if one.taken_for is None else printable(names[one.taken_for]),
                )
                for one in classes
            ),
        ]
    )
    if found.verdict:
        yield ""
        yield found.verdict


def about(found: Evaluation) -> str:
    """Say of which images it is, and what of them is missing."""
    part = "" if found.part == "all" else f", part {found.part}"
    present = len(found.class_names) - len(found.absent)
    text = (
        f"{counted(found.images, 'image')} of {printable(found.data)}{part}, in {present} of "
        f"{len(found.class_names)} classes"
    )
    if found.unreadable:
        text += f"; {counted(found.unreadable, 'image')} could not be read and left out"
    if len(found.absent) > 0:
        text += f"; without images: {', '.join(map(printable, found.absent[:5]))}" + (
            " ..." if len(found.absent) > 5 else ""
        )
    return text


def _overall(name: str, answers: Answers, *, error: float | None) -> tuple[str, ...]:
    low, high = answers.interval
    within = f"{percent(low)} to {percent(high)}"
    figures = (answers.top, answers.macro_f1, error)
    return (name, percent(answers.accuracy), within, *map(percent, figures))
