import errno
import sqlite3

import pytest

from client_app.failures import code_of
from fedrsclip_core.errors import DataError, ModelError
from fedrsclip_core.wire.messages import FailureCode

pytestmark = pytest.mark.unit


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def full_database() -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")
    connection.close()
    return caught.value


def test_a_full_disk_is_one_whatever_it_stopped() -> None:
    assert code_of(OSError(errno.ENOSPC, "full")) == FailureCode.DISK
    assert code_of(caused(DataError("cache"), OSError(errno.EDQUOT, "x"))) == FailureCode.DISK
    assert code_of(caused(DataError("cache"), full_database())) == FailureCode.DISK
    assert code_of(PermissionError(errno.EACCES, "private")) == FailureCode.DISK


def test_other_causes_do_not_hide_what_failed() -> None:
    unreadable = caused(ModelError("weights"), PermissionError(errno.EACCES, "x"))
    assert code_of(unreadable) == FailureCode.MODEL
    damaged = caused(DataError("cache"), sqlite3.DatabaseError("damaged"))
    assert code_of(damaged) == FailureCode.DATA


def test_a_device_without_memory_is_named() -> None:
    assert code_of(OutOfMemoryError("CUDA")) == FailureCode.DEVICE
    assert code_of(caused(ModelError("tower"), OutOfMemoryError("CUDA"))) == FailureCode.DEVICE
    assert code_of(MemoryError()) == FailureCode.INTERNAL
