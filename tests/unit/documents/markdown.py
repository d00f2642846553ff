"""What is in the documents: their code blocks, the commands in those, their links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")])

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> Iterator[str]:
    """Yield the page's code blocks of a language."""
    for found, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if found == language:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each ``fedrsclip`` command, after its name."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]
                if words and Path(words[0]).name == "fedrsclip":
                    yield words[1:]


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and anchor of each link that does not leave the repository."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if not re.match(r"\w+:", target):
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST make them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
