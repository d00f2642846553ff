"""Commands and links of the documents are understood; a command that no longer is fails here."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedrsclip.bench.description import describe as describe_bench
from fedrsclip.cli import parsers
from fedrsclip.deploy.description import describe as describe_deployment
from fedrsclip.run.submit import OPTIONS
from fedrsclip_core.config.compose import compose
from fedrsclip_core.errors import ConfigError
from tests.unit.documents.markdown import PAGES, ROOT, anchors, commands, links

pytestmark = pytest.mark.unit

FOUND = {tuple(words): page.relative_to(ROOT) for page in PAGES for words in commands(page)}
COMMANDS = [
    pytest.param(words, id=f"{page}: {' '.join(words)[:60]}") for words, page in FOUND.items()
]
PLACEHOLDERS = {"seed": "1", "method": "promptfl"}
OWN_KEYS = {
    "run": ("resume",),
    "submit": OPTIONS,
    "deploy": ("out", "days", "rotate"),
}


def understand(words: Sequence[str]) -> None:
    """Raise ConfigError or SystemExit if ``fedrsclip`` would not understand these arguments."""
    name, *arguments = [
        re.sub(r"<([a-z]+)[^>]*>", lambda found: PLACEHOLDERS.get(found[1], "some"), word)
        for word in words
    ]
    if name in ("data", "model"):
        name, arguments = f"{name} {arguments[0]}", arguments[1:]
    if name == "deploy" and arguments[:1] == ["certs"]:
        arguments = arguments[1:]
    parser = parsers()[name]
    given, overrides = parser.parse_known_args(arguments)
    overrides += getattr(given, "overrides", [])
    own = OWN_KEYS.get(name, ())
    overrides = [text for text in overrides if text.partition("=")[0] not in own]
    if name in ("run", "submit", "config", "check", "data check", "data split"):
        compose(overrides)
    elif name == "bench":
        describe_bench(overrides)
    elif name == "deploy" and overrides:
        describe_deployment(overrides)


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_is_understood(words: Sequence[str]) -> None:
    understand(words)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_the_commands_of_the_demo_are_understood() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = [shlex.split(line) for line in said.splitlines()]
    found = [words[1:] for words in lines if Path(words[0]).name == "fedrsclip"]
    assert [words[0] for words in found] == ["run", "data", "map"]
    for words in found:
        understand(words)


def test_there_are_commands_to_look_at() -> None:
    used = {words[0] for words in FOUND}
    assert used >= {"run", "submit", "check", "config", "bench", "data", "deploy", "watch"}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "optimizer.lrr=1"],
        ["bench", "bench=nonsense"],
        ["bench", "bench=demo", "bench.sets=[0]"],
        ["deploy", "federation=nonsense", "out=sites"],
    ],
)
def test_a_command_that_is_not_understood_is_found(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        understand(words)


def test_an_unknown_command_is_found() -> None:
    with pytest.raises(KeyError):
        understand(["simulate"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        f"{file.relative_to(ROOT)}#{anchor}"
        for file, anchor in links(page)
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file))
    ]
    # Headings that are generated have no line in their page.
    generated = ROOT / "docs/reference/configuration.md"
    assert [link for link in broken if not link.startswith(str(generated.relative_to(ROOT)))] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
