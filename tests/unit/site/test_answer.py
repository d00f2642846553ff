"""What leaves a site's process, and what runs in it, with Flower's own function around it."""

import hashlib
import io
import json
import signal
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flwr.app import Metadata

from fedrsclip.site import answer
from fedrsclip.site.answer import forget_project
from fedrsclip.site.journal import journals
from fedrsclip.site.submitted import installed_app
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.wire.digests import code_digest, contents_digest
from tests.unit.site.flower_process import answered

pytestmark = [pytest.mark.unit, pytest.mark.flower]

SECRET = "ZZ-the-path-of-an-image-ZZ"
CANARY = f"""
import os, pathlib
pathlib.Path(os.environ["FEDRSCLIP_HOME"], "canary").touch()
raise RuntimeError("{SECRET}")
"""
PYPROJECT = """
[project]
name = "fedrsclip"
version = "0.1.0"
{project}
[tool.flwr.app]
publisher = "fedrsclip"
[tool.flwr.app.components]
serverapp = "server_app.app:app"
clientapp = "{clientapp}"
[tool.flwr.app.config]
{config}
"""
REFUSED = "<class 'fedrsclip_core.wire.messages.ClientFailure'>:<'{code}'>"


@cache
def _configuration() -> str:
    return to_json(compose([]))


def pyproject(clientapp: str = "client_app.app:app", project: str = "", config: str = "") -> bytes:
    return PYPROJECT.format(clientapp=clientapp, project=project, config=config).encode()


def archive(files: Mapping[str, bytes]) -> bytes:
    """Pack files as Flower's command does, with the list by which it checks them."""
    listed = [f"{n},{hashlib.sha256(c).hexdigest()},{8 * len(c)}" for n, c in files.items()]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in {**files, ".info/CONTENT": "\n".join(listed).encode()}.items():
            opened.writestr(name, content)
    return packed.getvalue()


def honest(**more: bytes) -> dict[str, bytes]:
    return {"pyproject.toml": pyproject(), **installed_app(), **more}


@dataclass
class Site:
    """A site's folder, and what is asked there."""

    root: Path
    asked: dict[str, Any] = field(default_factory=lambda: {"kind": "query.identity"})
    policy: str | None = None
    submitted: bytes = b""

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in (self.home / "logs").glob("*.log"))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [line for one in journals(self.home / "logs") for line in one.entries()]

    def sent(self, files: Mapping[str, bytes] | bytes) -> dict[str, Any]:
        """Give the site a task with what was submitted; return what it sends."""
        if self.policy is not None:
            (self.root / "site.yaml").write_text(self.policy)
        to = self.root / "sent.json"
        to.unlink(missing_ok=True)
        self.submitted = files if isinstance(files, bytes) else archive(files)
        task = {"archive": self.submitted, "code": code_digest(), "configuration": _configuration()}
        answered(task | self.asked, to)
        return dict(json.loads(to.read_text()))

    def refused(self, files: Mapping[str, bytes], code: str) -> None:
        """Nothing but a code leaves, and nothing of what was submitted has run or been written."""
        sent = self.sent(files)
        assert sent["text"] == REFUSED.format(code=code), self.log
        assert SECRET not in sent["objects"]
        assert not (self.home / "canary").exists()
        assert not list((self.root / "flwr").rglob("*.py"))
        assert (self.lines[-1]["outcome"], self.lines[-1]["code"]) == (code, "")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    return Site(tmp_path)


@pytest.fixture
def with_policy(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("FEDRSCLIP_POLICY", str(site.root / "site.yaml"))
    return site


def test_the_installed_app_answers(site: Site) -> None:
    sent = site.sent(honest())
    assert sent["text"] is None, site.log
    assert code_digest() in sent["objects"]
    (line,) = site.lines
    assert (line["outcome"], line["code"], line["run"]) == ("done", "installed", "run-7")
    assert line["bytes_out"] == len(sent["objects"])
    assert not (site.root / "flwr" / "apps").exists()


def test_code_that_differs_by_a_byte_never_runs(site: Site) -> None:
    name = "client_app/__init__.py"
    changed = {**honest(), name: installed_app()[name] + CANARY.encode()}
    site.refused(changed, "configuration")
    theirs = contents_digest({n: c for n, c in changed.items() if n != "pyproject.toml"})
    assert f"{name} differs (digest of its code {theirs}, of this site's {code_digest()})" in (
        site.log
    )


@pytest.mark.parametrize(
    "files",
    [
        {"torch.py": CANARY.encode()},
        {"flwr/__init__.py": CANARY.encode(), "sitecustomize.py": CANARY.encode()},
        {"evil.pth": b"import os; os.system('touch $FEDRSCLIP_HOME/canary')"},
        {"../../../../home/canary": b""},
        {"conf/canary.py": CANARY.encode()},
    ],
)
def test_what_shadows_or_wanders_never_runs(site: Site, files: dict[str, bytes]) -> None:
    site.refused({**files, **honest()}, "configuration")


def test_the_installed_app_answers_whatever_the_project_file_says(site: Site) -> None:
    """Another app, dependencies, and a word that is the site's alone."""
    site.asked["run_config"] = {"site.allow_submitted_code": "true", "allow_submitted_code": True}
    submitted = {
        **installed_app(),
        "conf/site.yaml": b"allow_submitted_code: true\n",
        "pyproject.toml": pyproject(
            "os:system", 'dependencies = ["evil-package"]', "allow_submitted_code = true"
        ),
    }
    sent = site.sent(submitted)
    assert sent["text"] is None and code_digest() in sent["objects"], site.log
    assert not (site.root / "flwr").exists() or not list((site.root / "flwr").rglob("*.py"))
    other = {**submitted, "client_app/__init__.py": CANARY.encode()}
    site.refused(other, "configuration")


def test_a_project_file_that_cannot_be_read_is_not_read(site: Site) -> None:
    assert site.sent({**installed_app(), "pyproject.toml": b"\xff[["})["text"] is None, site.log


def test_what_lies_where_flower_would_install_the_app_is_not_looked_at(site: Site) -> None:
    """Whoever wins a race for that folder has won nothing."""
    site.sent(honest())
    name = f"fedrsclip.fedrsclip.0.1.0.{hashlib.sha256(site.submitted).hexdigest()[:8]}"
    planted = site.root / "flwr" / "apps" / name
    for path, content in {**honest(), "client_app/__init__.py": CANARY.encode()}.items():
        (planted / path).parent.mkdir(parents=True, exist_ok=True)
        (planted / path).write_bytes(content)
    assert site.sent(site.submitted)["text"] is None, site.log
    assert not (site.home / "canary").exists()


def test_words_of_the_server_do_not_come_back(site: Site) -> None:
    """Flower itself raises an exception about them, outside the app."""
    site.asked["fab_id"] = SECRET
    sent = site.sent(honest())
    assert sent["text"] == REFUSED.format(code="internal")
    assert SECRET in site.log and site.lines[-1]["outcome"] == "internal"


def test_an_exception_outside_the_handlers_is_a_code(site: Site) -> None:
    site.asked["kind"] = "query.everything"
    sent = site.sent(honest())
    assert sent["text"] == REFUSED.format(code="internal")
    assert "kept from the server" in site.log and "everything" in site.log


def test_where_the_site_allows_it_submitted_code_runs_and_its_sentence_stays(
    with_policy: Site,
) -> None:
    with_policy.policy = "allow_submitted_code: true\n"
    changed = {**honest(), "client_app/__init__.py": CANARY.encode()}
    sent = with_policy.sent(changed)
    assert (with_policy.home / "canary").exists()
    assert sent["text"] == REFUSED.format(code="internal")
    assert SECRET not in sent["objects"] and SECRET in with_policy.log
    assert with_policy.lines[-1]["code"] == hashlib.sha256(with_policy.submitted).hexdigest()


def test_a_site_can_allow_submitted_code_to_answer(with_policy: Site) -> None:
    with_policy.policy = "allow_submitted_code: true\n"
    changed = {
        **honest(),
        "fedrsclip_core/__init__.py": installed_app()["fedrsclip_core/__init__.py"] + b"# x\n",
    }
    sent = with_policy.sent(changed)
    theirs = contents_digest({n: c for n, c in changed.items() if n != "pyproject.toml"})
    assert sent["text"] is None and theirs in sent["objects"], with_policy.log


def test_a_policy_that_cannot_be_read_lets_nothing_run(with_policy: Site) -> None:
    with_policy.policy = "allow_submitted_code: yes please\n"
    with_policy.refused({**honest(), "client_app/__init__.py": CANARY.encode()}, "configuration")
    with_policy.refused(honest(), "configuration")
    assert "allow_submitted_code must be true or false" in with_policy.log


def test_a_refused_run_is_told_so_by_a_code(with_policy: Site) -> None:
    with_policy.policy = "runs: ['other-*']\n"
    sent = with_policy.sent(honest())
    assert sent["text"] == REFUSED.format(code="policy")
    assert "other-*" in with_policy.log and "other-*" not in sent["objects"]


def test_nothing_leaves_without_its_line(site: Site) -> None:
    (site.home / "logs").mkdir()
    (site.home / "logs" / "north.journal.last").mkdir()  # in the way
    sent = site.sent(honest())
    assert sent["text"] == REFUSED.format(code="disk")
    assert "the journal cannot be written (Is a directory): nothing was sent" in site.log


def test_the_projects_modules_are_forgotten_and_no_others() -> None:
    names = [
        "client_app",
        "client_app.app",
        "fedrsclip_core.runs.paths",
        "server_app",
        "client_apps",
        "os",
    ]
    modules = {name: ModuleType(name) for name in names}
    forget_project(modules)
    assert list(modules) == ["client_apps", "os"]


def _hang(metadata: Metadata) -> None:
    answer.end_if_it_hangs(metadata)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    while True:
        time.sleep(1)


@pytest.mark.parametrize("ttl", [0.5, -1000.0])
def test_a_process_that_hangs_is_ended_after_its_messages_deadline(
    monkeypatch: pytest.MonkeyPatch, ttl: float
) -> None:
    monkeypatch.setattr(answer, "_PATIENCE", 1.0)
    metadata = Metadata(7, "", 1, 2, "", "", time.time(), ttl, "train")
    process = get_context("fork").Process(target=_hang, args=(metadata,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGALRM


@pytest.mark.parametrize(
    ("kind", "ttl", "seconds"),
    [
        ("query.prepare", 10.0, None),
        ("train", 600.0, 720),
        ("train", float("nan"), 86_520),
        ("train", 1e300, 86_520),
    ],
)
def test_how_long_a_process_may_work(
    monkeypatch: pytest.MonkeyPatch, kind: str, ttl: float, seconds: int | None
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(signal, "alarm", set_to.append)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    answer.end_if_it_hangs(Metadata(7, "", 1, 2, "", "", 1000.0, ttl, kind))
    assert set_to == ([] if seconds is None else [seconds])
