"""Where files may go: nowhere below what travels to the sites with the submitted app."""

from pathlib import Path

import pytest

import fedrsclip_core
from fedrsclip.cli import main
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths

pytestmark = pytest.mark.unit

CHECKOUT = Path(fedrsclip_core.__file__).resolve().parents[1]


@pytest.mark.parametrize("given", ["a\0b", "~no-such-user/x"])
def test_what_can_be_no_path_is_a_sentence(
    given: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in (
        ("watch", "--once", given),
        ("report", given),
        ("deploy", f"out={given}"),
        ("deploy", "register", f"keys={given}", "address=a:1", f"root_certificates={given}"),
        ("data", "check", "uc_merced", "--path", given),
        ("data", "prepare", "uc_merced", "--from", given, "--to", str(tmp_path / "x")),
    ):
        assert main(list(command)) == 1, command
        assert capsys.readouterr().err.startswith("fedrsclip: ")
    with pytest.raises(ConfigError, match=r"data\.path is"):
        paths.place(given, "data.path")


def test_a_number_without_end_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "seed=" + "9" * 5000]) == 1
    assert capsys.readouterr().err.startswith("fedrsclip: ")


@pytest.mark.parametrize("below", ["conf/sites", "server_app", "fedrsclip_core/x", "fedrsclip"])
def test_a_place_that_travels_is_refused(below: str) -> None:
    with pytest.raises(ConfigError, match=r"^out is .* travels to every site"):
        paths.outside_app(CHECKOUT / below, "out")


def test_another_checkout_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.outside_app(tmp_path / "conf" / "sites", "out")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "conf").mkdir()
    (tmp_path / "elsewhere").symlink_to("conf")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "conf" / "sites", tmp_path / "elsewhere", Path("conf/x")):
        with pytest.raises(ConfigError, match="travels to every site"):
            paths.outside_app(place, "out")
    assert paths.outside_app(tmp_path / "sites" / "x", "out") == tmp_path / "sites" / "x"


@pytest.mark.parametrize(
    "command",
    [
        ("deploy", "federation=deployment", "out={}"),
        ("deploy", "certs", "out={}"),
        ("data", "prepare", "uc_merced", "--from", "/nowhere", "--to", "{}"),
        ("data", "split", "--out", "{}/split.json"),
        ("data", "check", "uc_merced", "--sheet", "{}/sheet.png"),
    ],
)
def test_every_command_that_writes_refuses_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    place = CHECKOUT / "conf" / "not-there"
    assert main([word.format(place) for word in command]) == 1
    assert "travels to every site" in capsys.readouterr().err
    assert not place.exists()


def test_a_home_that_travels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_HOME", str(CHECKOUT / "conf" / "home"))
    with pytest.raises(ConfigError, match=r"^FEDRSCLIP_HOME is"):
        paths.home()
