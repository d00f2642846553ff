"""What a site makes of archives that were made to get something past it."""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fedrsclip.run.staging import stage_app
from fedrsclip.site.submitted import LARGEST, installed_app, require_installed
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.wire.digests import code_digest, contents_digest

pytestmark = pytest.mark.unit

APP = {
    "server_app/__init__.py": b"",
    "client_app/__init__.py": b"",
    "client_app/app.py": b"app = 1\n",
    "fedrsclip_core/__init__.py": b"",
}
DATA = {
    "pyproject.toml": b"[project]\n",
    ".info/CONTENT": b"",
    "conf/config.yaml": b"seed: 0\n",
    "conf/method/fed-prox.yaml": b"",
}
Entry = str | zipfile.ZipInfo


def archive(files: Mapping[str, bytes], *more: tuple[Entry, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in (*files.items(), *more):
            opened.writestr(name, content)
    return packed.getvalue()


def refused(submitted: bytes, because: str) -> str:
    with pytest.raises(ConfigError) as caught:
        require_installed(submitted, APP)
    sentence = str(caught.value)
    assert because in sentence
    assert contents_digest(APP) in sentence
    assert sentence.isprintable() and len(sentence) < 500
    return sentence


def test_what_is_installed_is_taken_with_its_data_and_without() -> None:
    require_installed(archive(APP), APP)
    require_installed(archive({**DATA, **APP}), APP)


def test_the_installed_app_is_what_is_staged_and_digested(tmp_path: Path) -> None:
    staged = stage_app(tmp_path)
    files = [path for path in staged.rglob("*") if path.is_file()]
    contents = {path.relative_to(staged).as_posix(): path.read_bytes() for path in files}
    require_installed(archive(contents), installed_app())
    assert contents_digest(installed_app()) == code_digest()


@pytest.mark.parametrize("name", APP)
def test_one_other_byte_is_told_with_both_digests(name: str) -> None:
    other = {**APP, name: APP[name] + b" "}
    assert contents_digest(other) in refused(archive(other), f"{name} differs")


@pytest.mark.parametrize("name", APP)
def test_nothing_may_be_missing(name: str) -> None:
    refused(archive({n: content for n, content in APP.items() if n != name}), f"it lacks {name}")


@pytest.mark.parametrize(
    "name",
    [
        "torch.py",
        "torch/__init__.py",
        "client_app/extra.py",
        "client_app/app.cpython-311-x86_64-linux-gnu.so",
        "client_app/__pycache__/app.cpython-311.pyc",
        "client_app.py",
        "flwr/__init__.py",
        "sitecustomize.py",
        "usercustomize.py",
        "evil.pth",
        "conf/hydra.py",
        "conf/../torch.yaml",
        "conf//etc/passwd.yaml\\..\\x.py",
        "../client_app/app.py",
        "../../../../etc/cron.d/evil",
        "/etc/ld.so.preload",
        "client_app/../torch.py",
        "./client_app/app.py",
        "client_app\\extra.py",
        "CLIENT_APP/app.py",
        "client_app/app.py/",
        "pyproject.toml\n",
        ".info/CONTENT/x",
        "\x1b[2Jclient_app.py",
        "client_app/\u0430pp.py",
        "requirements.txt",
        "setup.py",
        "uv.toml",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_nothing_else_may_be_there(name: str, first: bool) -> None:
    evil = {name: b"raise SystemExit\n"}
    both = {**evil, **APP} if first else {**APP, **evil}
    refused(archive(both), "which the app does not have")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["client_app/app.py", "pyproject.toml"])
@pytest.mark.parametrize("first", [True, False])
def test_no_name_may_be_there_twice(name: str, first: bool) -> None:
    evil = (name, b"raise SystemExit\n")
    files = {**DATA, **APP}
    if first:
        files = {name: evil[1], **{n: c for n, c in files.items() if n != name}}
        evil = (name, {**DATA, **APP}[name])
    refused(archive(files, evil), "2 times")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_ends_at_a_zero_byte_is_another_file_or_twice() -> None:
    packed = archive(APP, ("client_app/app.py@x", b"evil"))
    refused(packed.replace(b"app.py@x", b"app.py\0x"), "2 times")


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is unpacked, in sequence."""
    names: list[str] = []
    read = zipfile.ZipFile.read

    def noted(self: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
        names.append(entry.filename)
        return read(self, entry)

    monkeypatch.setattr(zipfile.ZipFile, "read", noted)
    return names


def test_a_bomb_is_not_unpacked(unpacked: list[str]) -> None:
    bomb = archive({**APP, "client_app/app.py": bytes(LARGEST + 1)})
    assert len(bomb) < LARGEST / 100
    refused(bomb, "too large")
    assert unpacked == []


def test_what_is_no_code_is_not_unpacked(unpacked: list[str]) -> None:
    require_installed(archive({**APP, **DATA, "pyproject.toml": bytes(2 * LARGEST)}), APP)
    assert unpacked == list(APP)


def test_a_size_that_lies_is_no_way_around() -> None:
    content = APP["client_app/app.py"]
    honest = archive({**APP, "client_app/app.py": content + bytes(1000)})
    size = struct.pack("<L", len(content) + 1000)
    lying = honest.replace(size, struct.pack("<L", len(content)))
    assert lying != honest
    refused(lying, "")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_packing_is_refused_unread(method: int) -> None:
    entry = zipfile.ZipInfo("client_app/app.py")
    entry.compress_type = method
    rest = {name: content for name, content in APP.items() if name != entry.filename}
    refused(archive(rest, (entry, APP[entry.filename])), "packed in another way")


def test_a_large_archive_is_not_opened() -> None:
    refused(bytes(LARGEST + 1), f"it has {LARGEST + 1} bytes")


ENTRY = b"PK\x01\x02\x14\x03\x14\x00"
"""How an entry of the list of contents begins; its flags follow."""
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "no zip": lambda data: b"import os\n" * 100,
    "cut": lambda data: data[: len(data) // 2],
    "end only": lambda data: data[-22:],
    "encrypted": lambda data: data.replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
    ),
    "checksum": lambda data: data.replace(b"PK\x03\x04", b"PK\x03\x05", 3),
    "offset": lambda data: data[:-6] + struct.pack("<L", 2**32 - 1) + data[-2:],
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_archive_is_a_sentence(kind: str) -> None:
    damaged = DAMAGES[kind](archive(APP))
    assert damaged != archive(APP)
    refused(damaged, "it cannot be read")


def test_no_byte_of_an_archive_can_be_changed_so_that_other_code_passes() -> None:
    """Each byte in turn: it is refused, or what was compared is the code that is installed."""
    whole = archive({"client_app/app.py": APP["client_app/app.py"]})
    only = {"client_app/app.py": APP["client_app/app.py"]}
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        try:
            require_installed(bytes(changed), only)
        except ConfigError:
            continue
        with zipfile.ZipFile(io.BytesIO(bytes(changed))) as opened:
            assert opened.read("client_app/app.py") == only["client_app/app.py"]
