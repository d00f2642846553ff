"""Addresses of no cluster, and where one is looked for."""

import signal
import threading
from pathlib import Path

import pytest

from fedrsclip.ray_cluster import connection
from fedrsclip.ray_cluster.connection import connected
from fedrsclip_core.errors import FedRSCLIPError, RunError

pytestmark = pytest.mark.unit
KEY = "bench.address"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("somewhere", "give auto, or host:port"),
        ("host:port", "give auto, or host:port"),
        ("127.0.0.1:1", "nobody answers there"),
        ("127.0.0.1:99999", "nobody answers there"),
    ],
)
def test_an_address_of_no_cluster_is_a_sentence(address: str, words: str) -> None:
    with pytest.raises(FedRSCLIPError, match=words) as caught, connected(address, KEY):
        raise AssertionError
    assert str(caught.value).startswith(f"{KEY} is {address}: ")
    assert "\n" not in str(caught.value)


def test_the_cluster_of_this_machine_is_found_where_ray_start_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    none = "no Ray cluster was started on this machine: .* name another by federation.ray_address="
    with pytest.raises(RunError, match=none), connected("auto", "federation.ray_address"):
        raise AssertionError
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    with (
        pytest.raises(RunError, match=r"127\.0\.0\.1:1: nobody answers there"),
        connected("auto", KEY),
    ):
        raise AssertionError
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    with (
        pytest.raises(RunError, match=r"127\.0\.0\.1:2: nobody answers there"),
        connected("auto", KEY),
    ):
        raise AssertionError


def test_what_is_no_cluster_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Version mismatch:\n    Ray: 1 and 2")

    monkeypatch.setattr(connection, "_check_reached", lambda *_: None)
    monkeypatch.setattr("ray.init", refuse)
    with (
        pytest.raises(RunError, match=r"\(Version mismatch: Ray: 1 and 2\)"),
        connected("a:1", KEY),
    ):
        raise AssertionError


def test_a_command_ends_by_its_own_signals_also_when_ray_has_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(connection, "_check_reached", lambda *_: None)
    monkeypatch.setattr("ray.init", lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with connected("a:1", KEY):
        assert signal.getsignal(signal.SIGTERM) is before


def test_a_cluster_that_goes_silent_ends_the_command_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(["", "", "", "refused"])
    monkeypatch.setattr(connection, "_unreached", lambda _: next(answers, "refused"))
    monkeypatch.setattr(connection, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(connection, "_LOST_AFTER", 0.05)
    monkeypatch.setattr("ray.init", lambda **_: None)
    ended: list[bool] = []
    monkeypatch.setattr("ray.shutdown", lambda: ended.append(True))
    said = f"nobody has answered at a:1, the Ray cluster that {KEY} names"
    with pytest.raises(RunError, match=said), connected("a:1", KEY):
        threading.Event().wait(60)
        raise AssertionError
    assert ended == [True]


def test_an_interrupt_by_a_person_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_unreached", lambda _: "")
    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    with pytest.raises(KeyboardInterrupt), connected("a:1", KEY):
        raise KeyboardInterrupt
