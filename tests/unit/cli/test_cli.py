"""The command: one sentence and a status for each mistake, never a traceback."""

import signal
from pathlib import Path

import pytest
import yaml

from fedrsclip import check as checks
from fedrsclip.cli import command, main
from fedrsclip.run import launch
from fedrsclip.run.own_tuning import write_table
from fedrsclip_core.config.compose import compose
from fedrsclip_core.errors import RunError
from fedrsclip_core.runs import paths
from tests.unit.core.hub_cache import OLD, cache_hub_model

pytestmark = pytest.mark.unit


def test_config_prints_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "method=promptfl", "data.path=/images"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["method"] == "promptfl"
    assert printed["data"]["path"] == "/images"
    assert printed["prompt"]["n_ctx"] == compose([]).prompt.n_ctx


def test_config_shows_a_users_own_tuning_as_a_run_takes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table(paths.tuned_file(), {"uc_merced": {"promptfl": {"optimizer.lr": 0.25}}})
    assert main(["config", "experiment=uc_merced", "method=promptfl"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"# tuned=null optimizer.lr=0.25: from {paths.tuned_file()}")
    assert yaml.safe_load(said)["optimizer"]["lr"] == 0.25
    paths.tuned_file().write_text("uc_merced: [")
    assert main(["config", "experiment=uc_merced"]) == 1
    assert "tuned.yaml cannot be read: repair the file" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "config"])
def test_a_mistake_is_one_line_and_status_1(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "prompt.nctx=4"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fedrsclip: prompt.nctx")
    assert error.count("\n") == 1


def test_an_interrupt_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> int:
        raise KeyboardInterrupt

    handlers: dict[int, object] = {}
    monkeypatch.setattr(launch, "run", interrupted)
    monkeypatch.setattr("signal.signal", handlers.__setitem__)
    assert main(["run"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.SIGINT not in handlers

    monkeypatch.setattr("sys.argv", ["fedrsclip", "run"])
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 130
    assert handlers[signal.SIGINT] is signal.SIG_IGN


def test_a_full_disk_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(launch, "run", full)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    assert main(["run"]) == 1
    assert "No space left" in capsys.readouterr().err


def test_check_goes_on_after_a_problem() -> None:
    lines: list[str] = []
    status = checks.check(["data=folder", "data.path=/no/such/folder"], echo=lines.append)
    assert status == 1
    found = {line.split()[1].rstrip(":"): line.split()[0] for line in lines[:-1]}
    assert found["packages"] == found["home"] == found["configuration"] == "ok"
    assert found["data"] == "problem"
    assert any("/no/such/folder" in line for line in lines)


def test_check_says_what_would_travel() -> None:
    lines: list[str] = []
    offsets = ["method=class_offsets", "prompt.shared_offsets_dtype=int8"]
    checks.check(offsets, echo=lines.append)
    (line,) = (line for line in lines if line.startswith("ok       prompts"))
    assert "shared each way per client and round: shared_offsets 16 x 128 as int8 = 2,048" in line
    assert line.endswith("numbers, 2.1 kB")  # 16 x (128 + 4)
    assert "context vectors" not in line  # there is no prompt


def test_check_says_how_to_pin_what_the_hub_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_hub_model(tmp_path, monkeypatch, newest=OLD)
    lines: list[str] = []
    checks.check(["model.hub_id=owner/clip"], echo=lines.append)
    (line,) = (line for line in lines if line.startswith("ok       model"))
    assert line.endswith(f"model.revision is not set: model.revision={OLD} pins what is here now")
    lines.clear()
    checks.check(["model.hub_id=owner/clip", f"model.revision={OLD}"], echo=lines.append)
    assert not any("is not set" in line for line in lines)


def test_check_names_a_wrong_key() -> None:
    lines: list[str] = []
    assert checks.check(["prompt.nctx=4"], echo=lines.append) == 1
    assert any(line.startswith("problem  configuration: prompt.nctx") for line in lines)


def test_check_names_the_cause_of_missing_packages() -> None:
    with pytest.raises(RunError, match=r"torch not installed.*uv sync"):
        checks.inspect_packages(lambda name: None if name == "torch" else "1.41.0")
    with pytest.raises(RunError, match="ray is not installed"):
        checks.inspect_packages(lambda name: None if name == "ray" else "1.41.0")


@pytest.mark.parametrize("version", ["1.40.1", "1.43.0"])
def test_check_names_a_flower_that_is_not_known_to_work(version: str) -> None:
    with pytest.raises(RunError, match=rf"flwr is {version} but must be .*pip install 'flwr"):
        checks.inspect_packages(lambda _: version)


def test_check_names_a_home_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path / "file" / "home"))
    lines: list[str] = []
    assert checks.check([], echo=lines.append) == 1
    (line,) = (line for line in lines if line.startswith("problem  home"))
    assert "FEDRSCLIP_HOME" in line
