"""`fedrsclip private`: what a client keeps is listed, exported and deleted, by its owner alone."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.private_store import CLASSIFIER, open_store
from fedrsclip.classifier.loading import load_classifier
from fedrsclip.classifier.options import open_classifier
from fedrsclip.classifier.personal import load_personal_classifier
from fedrsclip.cli import main
from fedrsclip.predict.command import parser
from fedrsclip.private.command import private
from fedrsclip_core.errors import ModelError, PrivateStoreError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.sealed import read_sealed, write_sealed
from fedrsclip_core.runs.shared_prompt import NoSharedPromptError, read_shared_prompt
from tests.unit.client.site_folder import RUN, Client, make_images, shared_prompt

pytestmark = pytest.mark.unit


@pytest.fixture
def site(client: Client) -> Client:
    """A client that took part in two rounds and the last evaluation."""
    for server_round in (1, 2):
        client.train(server_round, shared_prompt())
    client.evaluate(2, shared_prompt(), final=True)
    return client


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def evaluation() -> Path:
    return paths.evaluations_dir("demo", RUN) / "client-0.json"


def test_the_list_says_whose_and_what(site: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["private", "list"]) == 0
    head, row = said(capsys).splitlines()
    assert head.split()[:4] == ["run", "federation", "client", "rounds"]
    assert row.split()[:3] == [RUN, "demo", "client-0"]
    assert "1, 2, last evaluation" in row
    assert row.split()[-2:] == ["demo_clip", "3"]


def test_nothing_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["private", "list"]) == 0
    assert "no client of this machine has private files in" in said(capsys)
    for words in (["export", "first", "x.safetensors"], ["delete", "first", "--yes"]):
        assert main(["private", *words]) == 1
        assert "no client of this machine has private files of a run 'first'" in said(capsys)


def test_a_damaged_file_is_listed_with_its_sentence(
    site: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.folder() / CLASSIFIER).write_bytes(b"damaged")
    assert main(["private", "list"]) == 0
    note, _, row = said(capsys).splitlines()
    assert f"{CLASSIFIER} is damaged" in note and row.split()[-1] == "?"


def test_an_export_classifies_elsewhere(
    site: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    here = load_personal_classifier(RUN, model_path=site.clip)
    file = tmp_path / "mine.safetensors"
    assert main(["private", "export", RUN, str(file)]) == 0
    assert "the classifier of client-0 in run run-7, round 2" in said(capsys)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path / "elsewhere"))
    there = load_personal_classifier(file, model_path=site.clip)
    assert there.describe() == here.describe() and there.digest == here.digest
    images = sorted(make_images(tmp_path / "images", per_class=1).rglob("*.png"))
    assert (there.scores(images) == here.scores(images)).all()
    # The commands see what the file is.
    options = parser().parse_args([str(file), "x", "--model-path", str(site.clip)])
    assert open_classifier(options).origin.client == "client-0"
    with pytest.raises(ModelError, match="load it with load_personal_classifier"):
        load_classifier(file, site.clip)
    with pytest.raises(NoSharedPromptError, match="is not a shared prompt of a run"):
        read_shared_prompt(file)  # nor does anybody publish it, or start a run from it
    with pytest.raises(PrivateStoreError, match="is of client client-0, not of client-1"):
        load_personal_classifier(file, "client-1", model_path=site.clip)


def test_nothing_is_overwritten_and_nothing_travels_with_the_app(
    site: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"mine")
    assert main(["private", "export", RUN, str(there)]) == 1
    assert "is there already: choose a new name" in said(capsys)
    assert there.read_bytes() == b"mine"
    assert main(["private", "export", RUN, str(tmp_path / "no" / "file")]) == 1
    assert "there is no folder" in said(capsys) and not (tmp_path / "no").exists()
    package = Path(__file__).parents[3] / "client_app" / "mine.safetensors"
    assert main(["private", "export", RUN, str(package)]) == 1
    assert "travels to every site" in said(capsys) and not package.exists()


def test_a_file_of_something_else_is_a_sentence(site: Client, tmp_path: Path) -> None:
    odd = tmp_path / "odd.safetensors"
    odd.write_bytes(b"odd")
    with pytest.raises(PrivateStoreError, match="is damaged"):
        load_personal_classifier(odd, model_path=site.clip)
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3, np.float32)}, odd)
    with pytest.raises(PrivateStoreError, match="has no checksum"):
        load_personal_classifier(odd, model_path=site.clip)


def test_a_forged_description_is_a_sentence(site: Client, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    private(["export", RUN, str(file)])
    metadata, tensors = read_sealed(file)
    forged = (
        ('"beta": 0.8', '"beta": NaN'),
        ('"beta": 0.8', '"beta": "x"'),
        ('"dtype": "float32"', '"dtype": "float8"'),
        ('"federation"', '"fed"'),
        ('"round": "2"', '"round": "two"'),
        ('"prompt": {', '"prompt": [{'),
    )
    for old, new in forged:
        changed = metadata["classifier"].replace(old, new)
        assert changed != metadata["classifier"]
        write_sealed(file, tensors, metadata | {"classifier": changed})
        with pytest.raises(PrivateStoreError, match="is damaged"):
            load_personal_classifier(file, model_path=site.clip)


def test_a_run_is_given_in_each_way(site: Client, tmp_path: Path) -> None:
    folder = RunFolder.named(RUN)
    folder.path.mkdir(parents=True)
    for source in (RUN, folder, folder.path):
        found = load_personal_classifier(source, model_path=site.clip)
        assert found.origin.client == "client-0"
    with pytest.raises(ModelError, match="a int is no run"):
        load_personal_classifier(3, model_path=site.clip)  # type: ignore[arg-type]


def test_every_bit_of_an_export_counts(site: Client, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    private(["export", RUN, str(file)])
    whole = file.read_bytes()
    for place in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[place] ^= 4
        file.write_bytes(changed)
        with pytest.raises((PrivateStoreError, ModelError)):
            load_personal_classifier(file, model_path=site.clip)


def test_delete_leaves_nothing_of_the_client_and_everything_of_others(
    site: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Client(site.data, site.clip, node={"client-name": "other", "partition-id": 1})
    other.train(1, shared_prompt())
    (site.folder() / "round-000001.safetensors.aside-1").write_bytes(b"aside")
    assert evaluation().exists()
    assert main(["private", "delete", RUN, "--client", "client-0", "--yes"]) == 0
    text = said(capsys)
    assert "deleted: 4 private files" in text and "and the details of the last eval" in text
    assert not site.folder().exists() and not evaluation().exists()
    assert (other.folder() / "round-000001.safetensors").exists()
    assert main(["private", "delete", RUN, "--yes"]) == 0
    assert not site.folder().parent.exists()


def test_what_clients_do_not_write_is_left(
    site: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.folder() / "notes.txt").write_text("mine")
    assert main(["private", "delete", RUN, "--yes"]) == 0
    assert "for nobody here has written them: notes.txt" in said(capsys)
    assert (site.folder() / "notes.txt").exists()
    assert not list(site.folder().glob("*.safetensors"))


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1), (None, 1)])
def test_delete_asks(
    site: Client, monkeypatch: pytest.MonkeyPatch, answer: str | None, status: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if answer is None:
            raise EOFError
        return answer

    assert private(["delete", RUN], echo=lambda line: None, ask=ask) == status
    assert "of client-0 in run run-7 of federation demo for good?" in asked[0]
    assert site.folder().exists() == bool(status)


def test_without_a_terminal_delete_wants_a_word(
    site: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["private", "delete", RUN]) == 1
    assert "repeat with --yes" in said(capsys)
    assert (site.folder() / CLASSIFIER).exists()


def test_what_is_in_use_is_not_deleted(site: Client, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store("demo", RUN, "client-0", site.format, lambda _: None):
        assert main(["private", "delete", RUN, "--yes"]) == 1
        assert "client-0 works on it just now" in said(capsys)
    run = paths.runs_dir() / RUN
    run.mkdir(parents=True)
    with lock.hold(run):
        assert main(["private", "delete", RUN, "--yes"]) == 1
        assert f"the run {RUN} is running: stop it first" in said(capsys)
    assert (site.folder() / CLASSIFIER).exists()
