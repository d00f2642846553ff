"""`fedrsclip clock`: a wrong clock is named, and nothing else is taken for one."""

import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from flwr.supercore.constant import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS

from fedrsclip import check as checks
from fedrsclip.cli import main
from fedrsclip.deploy import clock as clocks
from fedrsclip.deploy import keys
from tests.unit.cli.dated import HOUR, server

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("FEDRSCLIP_CA", raising=False)


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    return certified(tmp_path / "tls", days=10)


def certified(folder: Path, days: int) -> Path:
    """Make an authority and a server's certificate for so many days from now."""
    folder.mkdir()
    authority = folder / "ca.key", folder / "ca.crt"
    keys.write_authority(*authority, "test", 20)
    files = folder / "server.key", folder / "server.crt"
    keys.write_server(*authority, *files, ["127.0.0.1"], days)
    return folder


def postpone(folder: Path) -> None:
    """Sign the server's certificate again, valid from tomorrow on."""
    signer = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    old = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) + timedelta(days=1))
        .not_valid_after(old.not_valid_after_utc)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    new = builder.sign(signer, hashes.SHA384())
    (folder / "server.crt").write_bytes(new.public_bytes(Encoding.PEM))


def ask(address: str, monkeypatch: pytest.MonkeyPatch, authority: Path | None = None) -> int:
    monkeypatch.setenv("FEDRSCLIP_SERVER", address)
    if authority is not None:
        monkeypatch.setenv("FEDRSCLIP_CA", str(authority))
    return main(["clock"])


@pytest.mark.flower
def test_the_limits_are_flowers() -> None:
    assert -MIN_TIMESTAMP_DIFF_SECONDS == clocks.REFUSED_AHEAD
    assert MAX_TIMESTAMP_DIFF_SECONDS == clocks.REFUSED_BEHIND
    assert clocks._TOLERATED_AHEAD < clocks.REFUSED_AHEAD
    assert clocks._TOLERATED_BEHIND < clocks.REFUSED_BEHIND


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("ahead", [-HOUR, 0.0, 100.0, HOUR])
def test_the_offset_is_measured(ahead: float, secure: bool, tls: Path) -> None:
    authority = str(tls / "ca.crt") if secure else None
    with server(ahead=ahead, tls=tls if secure else None) as address:
        assert clocks.offset(address, authority) == pytest.approx(-ahead, abs=1.0)


@pytest.mark.parametrize(("ahead", "words"), [(HOUR, "behind the"), (-HOUR, "ahead of the")])
def test_a_wrong_clock_is_one_line(
    ahead: float,
    words: str,
    tls: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server(ahead=ahead, tls=tls) as address:
        assert ask(address, monkeypatch, tls / "ca.crt") == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert re.search(rf"clock is (3599|360[01]) s {words} server's; Flower refuses", line)
    assert "NTP" in line


@pytest.mark.parametrize(
    ("ahead", "status"), [(0.0, 0), (-2.0, 0), (-6.0, 1), (120.0, 0), (280.0, 1)]
)
def test_what_is_tolerated(
    ahead: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(ahead=ahead) as address:
        assert ask(address, monkeypatch) == status
    said = capsys.readouterr()
    assert len((said.err if status else said.out).splitlines()) == 1
    assert not (said.out if status else said.err)


@pytest.mark.parametrize("sent", ["", "yesterday"])
def test_an_answer_without_a_date_says_nothing_of_the_clock(
    sent: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(sent=sent) as address:
        assert ask(address, monkeypatch) == 0
    assert "does not tell its time (no date)" in capsys.readouterr().out


@pytest.mark.parametrize(("days", "words"), [(0, "has expired"), (10, "is not valid yet")])
def test_a_certificate_out_of_its_time_may_mean_a_wrong_clock(
    days: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = certified(tmp_path / "tls", days)
    if days:
        postpone(folder)
    with server(tls=folder) as address:
        assert ask(address, monkeypatch, folder / "ca.crt") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"certificate {words} by this machine's clock, which says {datetime.now(UTC):%Y-}" in line
    )
    assert "NTP" in line


def test_a_foreign_server_says_nothing_of_the_clock(
    tls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = certified(tmp_path / "other", 10)
    with server(ahead=HOUR, tls=tls) as address:
        assert ask(address, monkeypatch, other / "ca.crt") == 0
        assert "FEDRSCLIP_CA" in capsys.readouterr().out
        assert ask(address.replace("127.0.0.1", "localhost"), monkeypatch, tls / "ca.crt") == 0
        assert "localhost" in capsys.readouterr().out


def test_nobody_listening_says_nothing_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert ask(address, monkeypatch) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert f"{address} does not tell its time (Connection refused)" in line


def test_a_silent_server_is_not_waited_for(tls: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(clocks.NoAnswerError, match="timed out"):
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            clocks.offset(address, str(tls / "ca.crt"), patience=0.3)
        assert time.monotonic() - start < 3


def test_a_slow_search_for_the_address_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Event()

    def searching(*args: object, **kwargs: object) -> list[object]:
        never.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", searching)
    with pytest.raises(clocks.NoAnswerError, match="timed out"):
        clocks.offset("fed.example.org:8443", None, patience=0.2)
    never.set()


def test_an_institutions_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(ahead=HOUR) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        assert clocks.offset("fed.example.org:8443", None) == pytest.approx(-HOUR, abs=1.0)


@pytest.mark.parametrize("name", ["", "fed.example.org", "https://fed.example.org:1", "a:b", "[:1"])
def test_the_server_must_be_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(name, monkeypatch) == 1
    assert "FEDRSCLIP_SERVER is" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_the_authority_must_be_one(
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if text is not None:
        (tmp_path / "ca.crt").write_text(text)
    assert ask("127.0.0.1:1", monkeypatch, tmp_path / "ca.crt") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "FEDRSCLIP_CA is" in line


def test_check_inspects_the_clock_of_a_site(tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_CA", str(tls / "ca.crt"))
    for ahead, found in ((0.0, "ok       clock: 0 s "), (-HOUR, "problem  clock: this machine's")):
        with server(ahead=ahead, tls=tls) as address:
            monkeypatch.setenv("FEDRSCLIP_SERVER", address)
            lines = checked()
        assert any(line.startswith(found) for line in lines), lines
    lines = checked()
    assert any(
        line.startswith(f"ok       clock: not known: the server {address} does") for line in lines
    )
    assert not any("resources:" in line for line in lines)
    monkeypatch.delenv("FEDRSCLIP_SERVER")
    lines = checked()
    assert not any("clock:" in line for line in lines)
    assert any("resources:" in line for line in lines)


def checked() -> list[str]:
    lines: list[str] = []
    checks.check(["data=folder", "data.path=/no/such/folder"], echo=lines.append)
    return lines


def test_asking_is_light() -> None:
    code = (
        "import sys, fedrsclip.deploy.clock;"
        "print(*{'flwr', 'hydra', 'numpy', 'cryptography', 'httpx'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
