"""What is said of each image, in one of three forms: a table, CSV, JSON lines."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Protocol

from fedrsclip_core.printable import printable

_DIGITS = 6
"""Of a probability; float32 has no more."""


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes
    ----------
    image : str
        Its path as it was given or found.
    best : tuple of (str, float)
        The most probable classes with their probabilities, the first first; empty if it could not
        be read.
    error : str
        Why it could not.
    """

    image: str
    best: tuple[tuple[str, float], ...] = ()
    error: str = ""


class Form(Protocol):
    """How rows are written."""

    def header(self) -> str:
        """Return what stands above the rows."""

    def line(self, row: Row) -> str:
        """Return a row with its line end."""


class Stored(Form, Protocol):
    """How rows are written to a file and found in it again."""

    def key(self, image: str) -> str:
        """Return an image's path as :meth:`read` finds it."""

    def whole(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the rows of a file, without the header and what was cut off at the end."""

    def read(self, row: bytes) -> tuple[str, bool]:
        """Return a row's image and whether it was unreadable; raises ValueError if it is none."""


class Csv:
    """A header, then ``image,class,probability,...,error``; quoted only where need be.

    Parameters
    ----------
    top : int
        How many classes each image has.
    """

    def __init__(self, top: int) -> None:
        more = [f"{name}_{k}" for k in range(2, top + 1) for name in ("class", "probability")]
        self._columns = ["image", "class", "probability", *more, "error"]

    def header(self) -> str:  # noqa: D102
        return _csv(self._columns)

    def line(self, row: Row) -> str:  # noqa: D102
        cells = [text for name, p in row.best for text in (name, f"{p:.{_DIGITS}f}")]
        cells += [""] * (len(self._columns) - 2 - len(cells))
        return _csv([self.key(row.image), *cells, self.key(row.error)])

    def key(self, image: str) -> str:
        r"""Return a path; bytes that are no UTF-8 as escapes, ``\udcff``."""
        return image.encode(errors="backslashreplace").decode()

    def whole(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield rows, of which one in quotes may go over several lines."""
        row, is_header = b"", True
        for line in lines:
            row += line
            if row.endswith(b"\n") and row.count(b'"') % 2 == 0:
                if not is_header:
                    yield row
                row, is_header = b"", False

    def read(self, row: bytes) -> tuple[str, bool]:  # noqa: D102
        cells = next(csv.reader(StringIO(row.decode(), newline=""), strict=True))
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells")
        return cells[0], bool(cells[-1])


class JsonLines:
    """An object a line: ``image``, ``class``, ``probability``, ``top``; or ``image``, ``error``."""

    def __init__(self, top: int) -> None:
        self._top = top

    def header(self) -> str:  # noqa: D102
        return ""

    def line(self, row: Row) -> str:  # noqa: D102
        said: dict[str, object] = {"image": row.image}
        if row.best:
            first, *_ = top = [
                {"class": name, "probability": round(p, _DIGITS)} for name, p in row.best
            ]
            said |= first | ({"top": top} if self._top > 1 else {})
        else:
            said["error"] = row.error
        return json.dumps(said) + "\n"

    def key(self, image: str) -> str:  # noqa: D102
        return image

    def whole(self, lines: Iterable[bytes]) -> Iterator[bytes]:  # noqa: D102
        return (line for line in lines if line.endswith(b"\n"))

    def read(self, row: bytes) -> tuple[str, bool]:  # noqa: D102
        said = json.loads(row)
        if not isinstance(said, dict) or not isinstance(said.get("image"), str):
            raise ValueError("no image")
        return said["image"], "error" in said


class Table:
    """Columns for a person, who sees each line as it is written.

    Parameters
    ----------
    class_names : Sequence[str]
        All that may be said.
    top : int
        How many classes each image has.
    """

    def __init__(self, class_names: Sequence[str], top: int) -> None:
        self._top = top
        self._width = max(len("class"), *(len(printable(name)) for name in class_names))

    def header(self) -> str:  # noqa: D102
        return self._cells([("class", "prob.")] * self._top) + "image\n"

    def line(self, row: Row) -> str:  # noqa: D102
        if not row.best:
            pad = self._cells([("unreadable", "")] + [("", "")] * (self._top - 1))
            return f"{pad}{printable(row.image)}\n"
        cells = [(printable(name), f"{p:.3f}") for name, p in row.best]
        return f"{self._cells(cells)}{printable(row.image)}\n"

    def _cells(self, cells: Sequence[tuple[str, str]]) -> str:
        return "".join(f"{name:<{self._width}}  {p:<5}  " for name, p in cells)


def _csv(cells: Sequence[str]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
