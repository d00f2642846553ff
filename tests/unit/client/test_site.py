import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from client_app.site import Site, read_site
from client_app.site_log import SiteLog
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

pytestmark = pytest.mark.unit

ENVIRONMENT = {
    "FEDRSCLIP_DATA_PATH": "/env/images",
    "FEDRSCLIP_MODEL_PATH": "/env/clip",
    "FEDRSCLIP_DEVICE": "cpu",
}


def test_node_configuration_wins_over_environment() -> None:
    node = {
        "partition-id": 2,
        "num-partitions": 5,
        "client-name": "north",
        "data-path": "/node/images",
        "model-path": "/node/clip",
        "device": "cuda:1",
    }
    site = read_site(node, num_clients=9, environment=ENVIRONMENT)
    assert site == Site("north", 2, 5, Path("/node/images"), Path("/node/clip"), "cuda:1")


def test_environment_wins_over_defaults() -> None:
    site = read_site({"partition-id": 0}, num_clients=3, environment=ENVIRONMENT)
    assert site == Site("client-0", 0, 3, Path("/env/images"), Path("/env/clip"), "cpu")
    assert read_site({"partition-id": 1}, num_clients=3, environment={}) == Site("client-1", 1, 3)


def test_a_site_has_its_own_words_for_how_its_images_are_read() -> None:
    node = {"partition-id": 0, "data-bands": 4, "data-nodata": 0}
    environment = {"FEDRSCLIP_DATA_BANDS": "[1,2,3]", "FEDRSCLIP_DATA_STRETCH": "[0, 3000]"}
    site = read_site(node, num_clients=1, environment=environment)
    assert site.own_reading == (("bands", "4"), ("stretch", "[0, 3000]"), ("nodata", "0"))
    assert not read_site({"partition-id": 0}, num_clients=1, environment={}).own_reading


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({}, "no partition-id"),
        ({"client-name": "north"}, "no partition-id"),
        ({"partition-id": "0"}, "whole number"),
        ({"partition-id": True}, "whole number"),
        ({"partition-id": -1}, "whole number"),
        ({"partition-id": 3, "num-partitions": 3}, "counts from 0"),
        ({"partition-id": 0, "num-partitions": 2.5}, "whole number"),
        ({"partition-id": 0, "client-name": "../north"}, "client-name is '../north'"),
        ({"partition-id": 0, "client-name": 7}, "client-name in the node configuration"),
        ({"partition-id": 0, "data-path": 7}, "data-path in the node configuration"),
    ],
)
def test_a_site_that_cannot_say_who_it_is_is_refused(
    node: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_site(node, num_clients=4, environment={})


def test_the_log_keeps_sentence_and_traceback_for_the_owner() -> None:
    log = SiteLog("north")
    log.write("round 1: 4 steps")
    try:
        raise ConfigError("the key x is wrong \udcff")
    except ConfigError as error:
        log.failure("train", error)
    path = paths.logs_dir() / "north.log"
    text = path.read_text(encoding="utf-8")
    assert "round 1: 4 steps\n" in text
    assert "train failed: the key x is wrong" in text
    assert "Traceback (most recent call last)" in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_and_the_one_before_it_have_a_bounded_size() -> None:
    log = SiteLog("north", max_bytes=1000)
    for number in range(200):
        log.write(f"line {number}")
    log.write("a long story " * 500)
    log.write("the last line")
    files = sorted(paths.logs_dir().iterdir())
    assert [file.name for file in files] == ["north.log", "north.log.1"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert files[0].read_text(encoding="utf-8").splitlines()[-1].endswith("Z the last line")


def test_processes_that_write_one_full_log_lose_no_line() -> None:
    code = (
        "import sys; from client_app.site_log import SiteLog\n"
        "log = SiteLog('north', max_bytes=8_000)\n"
        "for number in range(100): log.write(f'{sys.argv[1]} {number}')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    # 400 lines of about 35 bytes: moved once, so everything lies in the two files.
    SiteLog("north").write("end")
    files = sorted(paths.logs_dir().iterdir(), reverse=True)
    lines = "".join(file.read_text(encoding="utf-8") for file in files).splitlines()
    said = Counter(line.partition(" ")[2] for line in lines)
    assert said == Counter(f"{n} {number}" for n in range(4) for number in range(100)) + Counter(
        ["end"]
    )


def test_progress_is_not_a_line_per_batch() -> None:
    report = SiteLog("north").progress("images encoded")
    for done in range(1, 1001):
        report(done, 1000)
    lines = (paths.logs_dir() / "north.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("images encoded: 1000 of 1000")


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_HOME", "/proc/no-such-folder")
    SiteLog("north").write("nobody reads this")
