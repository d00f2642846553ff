"""Whether the app that was submitted is the one that is installed here.

What arrives is a zip archive (Flower's FAB). It is read in memory and compared: nothing of it is
written, put on ``sys.path`` or parsed. So whatever is found here only decides between an answer
and a refusal; what runs is the installed code in either case.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from functools import cache

from fedrsclip_core.errors import ConfigError
from fedrsclip_core.wire.digests import PACKAGES, app_files, contents_digest

LARGEST = 10 * 2**20
"""Bytes of an archive, and of the code in it: Flower's command makes none that is larger."""

_LARGEST_PROJECT = 2**18
_DATA = re.compile(r"pyproject\.toml|\.info/CONTENT|conf/[\w/-]+\.yaml")
"""What belongs to the app and is no code: never read here."""
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others may take gigabytes of memory to unpack a few bytes."""
_ADVICE = "install the same version of fedrsclip at both"


@cache
def installed_app() -> dict[str, bytes]:
    """Return the app's files as they were installed when this was first asked, by their names.

    Raises
    ------
    ConfigError
        If one of the packages is not importable.
    """
    return {name: path.read_bytes() for name, path in app_files().items()}


def require_installed(archive: bytes, installed: Mapping[str, bytes]) -> None:
    """Refuse an archive whose code is not, byte for byte, what is installed.

    Parameters
    ----------
    archive : bytes
        What was submitted.
    installed : Mapping[str, bytes]
        As from :func:`installed_app`.

    Raises
    ------
    ConfigError
        With the digests of both, and the first thing that differs.
    """
    if len(archive) > LARGEST:
        raise _refusal(f"it has {len(archive)} bytes", None, installed)
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = opened.infolist()
            found = _code(opened, entries)
    except ConfigError:
        raise
    except Exception as error:  # zipfile and zlib raise many kinds on foreign bytes
        raise _refusal(f"it cannot be read ({type(error).__name__})", None, installed) from error
    difference = _difference([entry.filename for entry in entries], found, installed)
    if difference:
        raise _refusal(difference, found, installed)


def project_is_small(archive: bytes) -> bool:
    """Whether the archive's ``pyproject.toml``, which Flower's SuperNode reads, is what it can be.

    Raises
    ------
    Exception
        Of many kinds, if the archive cannot be read.
    """
    if len(archive) > LARGEST:
        return False
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        project = opened.getinfo("pyproject.toml")
    return project.file_size <= _LARGEST_PROJECT and project.compress_type in _READ


def _code(opened: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> dict[str, bytes] | None:
    """Return what lies in the app's packages; nothing if that is more than any app's."""
    code = [entry for entry in entries if entry.filename.partition("/")[0] in PACKAGES]
    if sum(entry.file_size for entry in code) > LARGEST:
        return None
    if any(entry.compress_type not in _READ for entry in code):
        return None
    # No more than the size that an entry states is read of it.
    return {entry.filename: opened.read(entry) for entry in code}


def _difference(
    names: list[str], found: Mapping[str, bytes] | None, installed: Mapping[str, bytes]
) -> str:
    """Say in which way an archive is another app than the installed one; empty: in none."""
    if found is None:
        return "its code is too large or packed in another way"
    ((most, times),) = Counter(names).most_common(1) or [("", 0)]
    if times > 1:
        return f"it holds {_shown(most)} {times} times"
    for name in names:
        if name not in installed and not _DATA.fullmatch(name):
            return f"it holds {_shown(name)}, which the app does not have"
    for name, content in installed.items():
        if name not in found:
            return f"it lacks {name}"
        if found[name] != content:
            return f"{name} differs"
    return ""


def _refusal(
    difference: str, found: Mapping[str, bytes] | None, installed: Mapping[str, bytes]
) -> ConfigError:
    theirs = "unknown" if found is None else contents_digest(found)
    return ConfigError(
        f"the submitted app is not the one that is installed here, and nothing of it was run: "
        f"{difference} (digest of its code {theirs}, of this site's {contents_digest(installed)}); "
        f"{_ADVICE}"
    )


def _shown(name: str) -> str:
    return ascii(name[:80])
