"""Every way in which a message can fail, reduced to a code of the closed list."""

import errno
import sqlite3

from fedrsclip_core.errors import (
    ConfigError,
    DataError,
    FedRSCLIPError,
    ModelError,
    PolicyError,
    PrivateStoreError,
    WireError,
)
from fedrsclip_core.wire.messages import FailureCode


class DeviceError(FedRSCLIPError):
    """A device that was asked for and is not there."""


class LateError(FedRSCLIPError):
    """The message's time to live is over: nobody waits for the answer."""


class NonFiniteError(FedRSCLIPError):
    """Training gave NaN or infinity."""


_CODES: tuple[tuple[type[FedRSCLIPError], FailureCode], ...] = (
    (ConfigError, FailureCode.CONFIGURATION),
    (PolicyError, FailureCode.POLICY),
    (DataError, FailureCode.DATA),
    (ModelError, FailureCode.MODEL),
    (PrivateStoreError, FailureCode.PRIVATE_STORE),
    (WireError, FailureCode.PROTOCOL),
    (LateError, FailureCode.LATE),
    (DeviceError, FailureCode.DEVICE),
    (NonFiniteError, FailureCode.NON_FINITE),
)
_NO_FILES = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
)
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def code_of(error: BaseException) -> FailureCode:
    """Return what the server may learn of ``error``: its kind.

    Looks at causes too: a full disk behind a :class:`DataError` is still a full disk.
    """
    cause: BaseException | None = error
    while cause is not None:
        if _is_full_disk(cause):
            return FailureCode.DISK
        # Named, not imported: this module must not need torch.
        if type(cause).__name__ in ("OutOfMemoryError", "AcceleratorError"):
            return FailureCode.DEVICE
        cause = cause.__cause__
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return FailureCode.DISK if isinstance(error, OSError) else FailureCode.INTERNAL


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        # Also to read it makes files of its own; a damaged file is replaced before it gets here.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_FILES
    return isinstance(error, OSError) and error.errno in _FULL_DISK
