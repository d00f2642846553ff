"""What the fork server imports before there is a message: all the installed code.

Together with its bytes, with which submitted code is compared: an upgrade of the package while the
fork server lives changes neither. Nothing here reads an image or touches a GPU.
"""

from contextlib import suppress
from importlib import import_module
from pathlib import PurePosixPath

import fedrsclip.site.answer  # noqa: F401 - imports Flower and the ClientApp
from fedrsclip.site.submitted import installed_app
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.wire.digests import code_digest

_NOT_AT_A_SITE = "server_app"


def modules() -> list[str]:
    """Return the names of the app's modules that a site may need."""
    paths = [PurePosixPath(name).with_suffix("") for name in installed_app()]
    parts = [path.parent if path.name == "__init__" else path for path in paths]
    return [".".join(path.parts) for path in parts if path.parts[0] != _NOT_AT_A_SITE]


# An incomplete package is told message by message, where there is a log.
with suppress(ConfigError, ImportError):
    code_digest()
    for module in modules():
        import_module(module)
