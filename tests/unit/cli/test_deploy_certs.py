"""`fedrsclip deploy certs`: formats, names, permissions, places, and nothing overwritten."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.verification import PolicyBuilder, Store

from fedrsclip.cli import main
from fedrsclip.deploy.keys import read_certificate

pytestmark = pytest.mark.unit

CLIENTS = ("north", "east", "south")
NAMES = "federation.alt_names=[fed.example.net,10.0.0.7,'2001:db8::7']"
Files = dict[str, bytes]


def certs(out: Path, *arguments: str) -> int:
    return main(["deploy", "certs", *arguments, f"out={out}"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    assert main(["deploy", "federation=deployment", NAMES, f"out={out}"]) == 0
    assert certs(out) == 0
    return out


def secret_files(out: Path) -> Files:
    """Everything with a private key or secret inside, by content and not by name."""
    found = {}
    for path in out.rglob("*"):
        if path.is_file() and (b"PRIVATE KEY" in path.read_bytes() or "secret" in path.parts):
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    return found


def test_the_certificate_is_for_every_name(out: Path) -> None:
    tls = out / "server" / "tls"
    certificate, authority = (read_certificate(tls / f"{n}.crt") for n in ("server", "ca"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    expected = {"fedrsclip.example.org", "fed.example.net", "localhost"}
    assert set(names.get_values_for_type(x509.DNSName)) == expected
    numbers = ("127.0.0.1", "10.0.0.7", "2001:db8::7")
    assert set(names.get_values_for_type(x509.IPAddress)) == set(map(ipaddress.ip_address, numbers))
    store = Store([authority])
    for subject in [
        *map(x509.DNSName, expected),
        *(x509.IPAddress(ipaddress.ip_address(number)) for number in numbers),
    ]:
        PolicyBuilder().store(store).build_server_verifier(subject).verify(certificate, [])
    key = load_pem_private_key((tls / "server.key").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=729) < left <= timedelta(days=730)


def test_validity_is_an_option(tmp_path: Path) -> None:
    assert certs(tmp_path / "out", "federation=deployment", "days=7") == 0
    certificate = read_certificate(tmp_path / "out" / "server" / "tls" / "server.crt")
    assert certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(days=8)


@pytest.mark.parametrize("days", ["0", "-1", "many", "1.5"])
def test_days_must_be_days(days: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs(out, f"days={days}") == 1
    assert "days is" in capsys.readouterr().err


def test_client_keys_are_what_flower_takes(out: Path) -> None:
    for client in CLIENTS:
        private = (out / "clients" / client / "keys" / client).read_bytes()
        assert private.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
        key = load_ssh_private_key(private, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP384R1)
        line = (out / "server" / "keys" / f"{client}.pub").read_bytes()
        assert line.startswith(b"ecdsa-sha2-nistp384 ")
        assert load_ssh_public_key(line) == key.public_key()


def test_private_files_are_where_they_are_needed_and_closed(out: Path) -> None:
    expected = {"ca/ca.key", "server/tls/server.key", "server/secret/superexec"}
    for client in CLIENTS:
        expected |= {f"clients/{client}/keys/{client}", f"clients/{client}/secret/superexec"}
    found = secret_files(out)
    assert set(found) == expected
    assert len(set(found.values())) == len(expected)  # each is random, none is shared
    for name in expected:
        path = out / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, name
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, name
    hosts = ("server", "admin", *(f"clients/{client}" for client in CLIENTS))
    authority = (out / "ca" / "ca.crt").read_bytes()
    assert all((out / host / "tls" / "ca.crt").read_bytes() == authority for host in hosts)


def test_nothing_is_overwritten(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = secret_files(out)
    capsys.readouterr()
    assert certs(out) == 0
    said = capsys.readouterr().out
    assert "kept" in said
    assert "rotate=north" in said
    assert main(["deploy", "federation=deployment", NAMES, f"out={out}"]) == 0
    assert secret_files(out) == before


@pytest.mark.parametrize("who", ["server", "east"])
def test_one_key_is_rotated(who: str, out: Path) -> None:
    before = secret_files(out)
    public = (out / "server" / "keys" / "east.pub").read_bytes()
    assert certs(out, f"rotate={who}") == 0
    after = secret_files(out)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"server/tls/server.key" if who == "server" else "clients/east/keys/east"}
    assert ((out / "server" / "keys" / "east.pub").read_bytes() != public) == (who == "east")
    assert certs(out) == 0  # all still fits together


def test_rotating_nobody(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs(out, "rotate=west") == 1
    assert "rotate=west names nobody" in capsys.readouterr().err


def test_a_site_may_keep_its_key_to_itself(out: Path) -> None:
    private = out / "clients" / "north" / "keys" / "north"
    public = out / "server" / "keys" / "north.pub"
    line = public.read_bytes()
    private.unlink()
    assert certs(out) == 0
    assert not private.exists()
    assert public.read_bytes() == line


def test_keys_that_do_not_fit_are_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = out / "server" / "keys"
    (keys / "north.pub").write_bytes((keys / "east.pub").read_bytes())
    assert certs(out) == 1
    assert "is not the public key" in capsys.readouterr().err


def test_a_damaged_key_is_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "clients" / "north" / "keys" / "north").write_text("damaged")
    assert certs(out) == 1
    assert "no private key in OpenSSH's format" in capsys.readouterr().err
    assert (out / "clients" / "north" / "keys" / "north").read_text() == "damaged"


def test_a_new_address_needs_a_new_certificate(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "federation=deployment", "federation.address=a.b", f"out={out}"]) == 0
    assert certs(out) == 1
    error = capsys.readouterr().err
    assert "is not for a.b" in error
    assert "rotate=server" in error
    assert certs(out, "rotate=server") == 0
    assert certs(out) == 0


def test_a_lost_authority_is_not_replaced_in_silence(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "ca" / "ca.key").rename(out.parent / "offline.key")
    assert certs(out) == 0  # not needed as long as the certificate is good
    assert certs(out, "rotate=server") == 1
    assert "bring it back" in capsys.readouterr().err
    (out / "ca" / "ca.crt").unlink()
    assert certs(out) == 1
    assert "delete ca/ and server/tls/" in capsys.readouterr().err


def test_an_expiring_certificate_is_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs(out, "rotate=server", "days=10") == 0
    capsys.readouterr()
    assert certs(out) == 0
    assert "expires on" in capsys.readouterr().out


def test_insecure_has_secrets_but_no_keys(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert certs(out, "federation.insecure=true", "federation.num_clients=2") == 0
    clients = {f"clients/client-{number}/secret/superexec" for number in range(2)}
    assert set(secret_files(out)) == {"server/secret/superexec", *clients}
