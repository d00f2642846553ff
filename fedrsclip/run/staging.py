"""Lay out the app that is submitted: what is loaded here, and nothing else.

The same code from a checkout, an editable install or a wheel gives the same files, so that the
digests of launcher, server and clients agree.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedrsclip_core.config.compose import conf_dir
from fedrsclip_core.errors import RunError
from fedrsclip_core.wire.digests import app_files, package_folder

_LONGEST_SOCKET_ROOT = 30


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
    conf = conf_dir()
    yaml = {f"conf/{path.relative_to(conf).as_posix()}": path for path in conf.rglob("*.yaml")}
    for name, source in (app_files() | yaml).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    shutil.copyfile(app_pyproject(), folder / "pyproject.toml")
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
