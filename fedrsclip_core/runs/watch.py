"""What a running federation writes on this machine, read while it is written."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedrsclip_core.runs.fileio import write_json

_FAILED = " failed: "
_MAX_SENTENCES = 5


class RunFolder:
    """Reads what a server writes into a run's folder, from now on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics = folder / "metrics.jsonl"
        self._offset = self._metrics.stat().st_size if self._metrics.is_file() else 0
        self._old_results = self._results_time()

    def new_rounds(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were added to ``metrics.jsonl`` since the last call."""
        if not self._metrics.is_file():
            return
        with self._metrics.open("rb") as file:
            # A run that goes on first cuts off what comes after its checkpoint.
            self._offset = min(self._offset, self._metrics.stat().st_size)
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                with suppress(json.JSONDecodeError):
                    yield json.loads(line)

    def keep_split(self, record: dict[str, Any]) -> None:
        """Write ``split.json``, only once; a run that goes on has the split that it had."""
        path = self.folder / "split.json"
        if not path.exists():
            write_json(path, record)

    def results(self) -> dict[str, Any] | None:
        """Return ``results.json`` if it was written since this object was made."""
        if not self.has_results():
            return None
        text = (self.folder / "results.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    def has_results(self) -> bool:
        """Whether ``results.json`` was written since this object was made."""
        return self._results_time() not in (None, self._old_results)

    def pictures(self) -> list[Path]:
        """Return the pictures in the folder."""
        return sorted(self.folder.glob("*.png"))

    def _results_time(self) -> int | None:
        path = self.folder / "results.json"
        return path.stat().st_mtime_ns if path.is_file() else None


class SiteLogs:
    """Reads what the clients of this machine log about themselves, from now on.

    A client tells the server a code and keeps the sentence; in a simulation its log lies here.
    Time, not place in the file, says what is new: a full log is moved to ``<client>.log.1``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._since = datetime.now(UTC)

    def failures(self) -> list[str]:
        """Return the different sentences with which clients failed, each with its first client."""
        sentences: dict[str, str] = {}
        for path in sorted(
            [*self._folder.glob("client-*.log"), *self._folder.glob("client-*.log.1")]
        ):
            client = path.name.partition(".log")[0]
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                entry, failed, sentence = line.partition(_FAILED)
                if failed and self._is_new(entry.partition(" ")[0]):
                    sentences.setdefault(sentence, client)
        return [f"{name}: {text}" for text, name in sentences.items()][:_MAX_SENTENCES]

    def _is_new(self, stamp: str) -> bool:
        """Whether a line's first word is a time since this object was made."""
        with suppress(ValueError, TypeError):
            return datetime.fromisoformat(stamp) >= self._since
        return False
