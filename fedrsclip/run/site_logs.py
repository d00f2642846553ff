"""What the clients of this machine log about themselves."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

_FAILED = " failed: "
_MAX_SENTENCES = 5


class SiteLogs:
    """Reads the logs of the clients from now on.

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
