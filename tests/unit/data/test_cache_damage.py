"""Damage, foreign files, kills, full disks and several processes."""

import multiprocessing
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import pytest

from fedrsclip_core.data.features import database as cache_database
from fedrsclip_core.errors import DataError
from tests.unit.data.cache_helpers import Run
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images", {"beach": 12, "river": 12})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def file_of(cache: Path) -> Path:
    (file,) = cache.glob("*.sqlite")
    return file


def test_folder_is_its_owners(root: Path, cache: Path) -> None:
    Run(cache, root)
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE features SET vector = zeroblob(2048) WHERE rowid <= 5",
        "UPDATE features SET vector = x'00' WHERE rowid <= 5",
        "UPDATE features SET vector = 'text' WHERE rowid <= 5",
        "UPDATE features SET checksum = checksum + 1 WHERE rowid <= 5",
        "UPDATE features SET vector = (SELECT vector FROM features WHERE rowid = 9), "
        "checksum = (SELECT checksum FROM features WHERE rowid = 9) WHERE rowid <= 5",
    ],
)
def test_damaged_rows_are_rebuilt_and_said_so(root: Path, cache: Path, statement: str) -> None:
    Run(cache, root)
    connection = sqlite3.connect(file_of(cache))
    connection.execute(statement)
    connection.commit()
    connection.close()
    run = Run(cache, root)
    assert run.work == (5, 0, 5)
    assert run.events == ["5 damaged features in the cache are rebuilt"]
    run.assert_right()
    assert Run(cache, root).work == (0, 0, 0)


def test_row_that_names_another_image_is_not_believed(root: Path, cache: Path) -> None:
    Run(cache, root)
    connection = sqlite3.connect(file_of(cache))
    connection.execute("UPDATE images SET content = (SELECT max(content) FROM features)")
    connection.commit()
    connection.close()
    Run(cache, root).assert_right()


@pytest.mark.parametrize(
    "content",
    [b"not a database, but long enough to look at" * 50, b"SQLite format 3\0" + b"x" * 99],
)
def test_file_that_is_no_database_is_replaced(root: Path, cache: Path, content: bytes) -> None:
    Run(cache, root)
    file_of(cache).write_bytes(content)
    run = Run(cache, root)
    assert run.encoder.encoded == 24
    assert "rebuilt" in run.events[0]
    assert Run(cache, root).work == (0, 0, 0)


def test_foreign_database_is_replaced(root: Path, cache: Path) -> None:
    Run(cache, root)
    file = file_of(cache)
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE features (name TEXT)")
    connection.close()
    run = Run(cache, root)
    assert run.encoder.encoded == 24
    assert "not a cache of this encoder" in run.events[0]


def test_file_of_another_encoder_is_replaced(root: Path, cache: Path) -> None:
    Run(cache, root, key="encoder-a")
    other = file_of(cache)
    Run(cache, root, key="encoder-b")
    (mine,) = set(cache.glob("*.sqlite")) - {other}
    shutil.copy(other, mine)
    run = Run(cache, root, key="encoder-b")
    assert run.encoder.encoded == 24
    assert "not a cache of this encoder" in run.events[0]


def test_empty_file_is_filled(root: Path, cache: Path) -> None:
    Run(cache, root)
    file_of(cache).write_bytes(b"")
    Run(cache, root).assert_right()


def test_any_flipped_bytes_never_give_a_wrong_feature(root: Path, cache: Path) -> None:
    Run(cache, root)
    whole = file_of(cache).read_bytes()
    rng = np.random.default_rng(0)
    for flips in rng.integers(1, 400, size=60):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(damaged), flips):
            damaged[position] ^= int(rng.integers(1, 256))
        file_of(cache).write_bytes(damaged)
        Run(cache, root).assert_right()


@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.99])
def test_truncated_file_is_rebuilt(root: Path, cache: Path, part: float) -> None:
    Run(cache, root)
    file = file_of(cache)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    Run(cache, root).assert_right()
    assert Run(cache, root).work == (0, 0, 0)


def test_full_disk_is_said_and_nothing_is_half_written(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_full(*args: object, **options: object) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.execute("PRAGMA max_page_count = 20")
        return connection

    connect = sqlite3.connect
    many = make_folder(root.parent / "many", {"lake": 300})
    Run(cache, root)
    monkeypatch.setattr(cache_database.sqlite3, "connect", nearly_full)
    with pytest.raises(DataError, match=r"database or disk is full.*make room"):
        Run(cache, many, batch_size=200)
    monkeypatch.undo()
    assert Run(cache, root).work == (0, 0, 0)
    run = Run(cache, many, batch_size=200)
    assert run.events == []
    run.assert_right()


def test_failing_writes_are_said(root: Path, cache: Path) -> None:
    """The kernel refuses to let any file grow beyond 64 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    result = subprocess.run(
        [sys.executable, "-c", CALL, str(cache), str(root), "0"],
        cwd=REPOSITORY, preexec_fn=limit, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "DataError" in result.stderr
    assert "make room on the disk" in result.stderr
    run = Run(cache, root)
    assert run.events == []
    run.assert_right()


def test_folder_that_cannot_be_made(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        Run(tmp_path / "file" / "cache", root)


CALL = """
import sys
from pathlib import Path
from tests.unit.data.cache_helpers import Run
run = Run(Path(sys.argv[1]), Path(sys.argv[2]), seconds=float(sys.argv[3]), batch_size=2)
print(*run.work)
"""


def test_second_process_encodes_hashes_and_imports_nothing(root: Path, cache: Path) -> None:
    Run(cache, root)
    code = CALL + "assert not {'PIL', 'torch', 'transformers', 'datasets'} & set(sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code, str(cache), str(root), "0"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.split() == ["0", "0", "0"]


def test_killed_writer_leaves_a_usable_cache(root: Path, cache: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", CALL, str(cache), str(root), "0.04"], cwd=REPOSITORY
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and rows_in(cache) < 4:
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    kept = rows_in(cache)
    assert 4 <= kept < 24
    run = Run(cache, root)
    assert run.work == (24 - kept, 24 - kept, 24 - kept)
    assert run.events == []
    run.assert_right()


def rows_in(cache: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{file_of(cache)}?mode=ro", uri=True)
        return int(connection.execute("SELECT count(*) FROM features").fetchone()[0])
    except (ValueError, sqlite3.Error):
        return 0


CALLS_EACH = 12


def _work(cache: Path, root: Path, repeat: int, calls: "Synchronized[int]") -> None:
    for _ in range(repeat):
        Run(cache, root, batch_size=3, seconds=0.001).assert_right()
        calls.value += 1


def _damage(cache: Path, repeat: int, workers: "list[Synchronized[int]]") -> None:
    """Damage the file, but never twice in one call, which replaces a damaged file once."""
    calls = [0] * len(workers)
    while min(calls) < repeat:
        for file in cache.glob("*.sqlite"):
            with file.open("r+b") as opened:
                opened.write(b"damaged" * 20)
        # The call that is under way now, and a whole one after it unless that was the last.
        calls = [min(worker.value + 2, repeat) for worker in workers]
        while any(worker.value < count for worker, count in zip(workers, calls, strict=True)):
            time.sleep(0.01)


@pytest.mark.parametrize("shared", [False, True], ids=["local", "shared"])
@pytest.mark.parametrize("damage", [False, True])
def test_several_processes_at_once(
    root: Path, cache: Path, damage: bool, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_database, "is_shared", lambda _: shared)
    context = multiprocessing.get_context("fork")
    calls = [context.Value("i", 0) for _ in range(4)]
    jobs = [context.Process(target=_work, args=(cache, root, CALLS_EACH, each)) for each in calls]
    if damage:
        jobs.append(context.Process(target=_damage, args=(cache, CALLS_EACH, calls), daemon=True))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * len(jobs)
    Run(cache, root).assert_right()
    assert Run(cache, root).work == (0, 0, 0)
    assert _logs_ahead(cache) != shared


def test_a_log_of_one_machine_is_given_up_on_a_shared_disk(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(cache, root)
    assert _logs_ahead(cache)
    monkeypatch.setattr(cache_database, "is_shared", lambda _: True)
    assert Run(cache, root).work == (0, 0, 0)
    assert not _logs_ahead(cache)


def _logs_ahead(cache: Path) -> bool:
    connection = sqlite3.connect(file_of(cache))
    try:
        return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")
    finally:
        connection.close()
