"""Lay out the app that is submitted: what is loaded here, and nothing else.

The same code from a checkout, an editable install or a wheel gives the same files, so that the
digests of launcher, server and clients agree.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from fedrsclip_core.errors import RunError
from fedrsclip_core.wire.digests import app_files, package_folder

_LONGEST_SOCKET_ROOT = 30
_COMPOSED = "conf/"
"""Only a bare ``flwr run`` needs it: a staged app is submitted with a resolved configuration."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards; its path is short, because Ray's sockets lie there."""
    root = tempfile.gettempdir()
    short = root if len(root) <= _LONGEST_SOCKET_ROOT - len("/fedrsclip-12345678") else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="fedrsclip-", dir=short))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage_app(folder: Path) -> Path:
    """Copy the app into ``folder``.

    Raises
    ------
    RunError
        If the installed package has lost its ``pyproject.toml``.
    """
    for name, source in app_files().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    project = tomllib.loads(app_pyproject().read_text(encoding="utf-8"))
    app = project["tool"]["flwr"]["app"]
    app["fab-include"] = [files for files in app["fab-include"] if not files.startswith(_COMPOSED)]
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project), encoding="utf-8")
    return folder


def app_pyproject() -> Path:
    """Return the `pyproject.toml` of the app as loaded.

    Raises
    ------
    RunError
        If the installed package has lost it.
    """
    package = package_folder("fedrsclip_core")
    for path in (package / "app_pyproject.toml", package.parent / "pyproject.toml"):
        if path.is_file():
            return path
    raise RunError(f"the package in {package} is incomplete: reinstall fedrsclip with pip")
