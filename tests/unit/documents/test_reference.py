"""The reference is made from the code: all of it, and nothing that is not there."""

import dataclasses
from pathlib import Path

import pytest

import docs._ext.generated_reference as reference
from fedrsclip.cli import parsers
from fedrsclip_core.config.schema import Config
from fedrsclip_core.wire.messages import FailureCode
from tests.unit.documents.markdown import ROOT

pytestmark = pytest.mark.unit


def test_every_key_has_a_row_with_its_meaning() -> None:
    text = reference.configuration()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    keys = {row[0].strip("| `"): row[-1].strip(" |") for row in rows if len(row) == 4}
    expected = {
        f"{group.name}.{field.name}"
        for group in dataclasses.fields(Config)
        if dataclasses.is_dataclass(group.type)
        for field in dataclasses.fields(group.type)
    }
    assert keys.keys() == expected | {"seed"}
    assert all(keys.values())


def test_options_are_listed_with_what_they_are() -> None:
    text = reference.configuration()
    assert (
        "| `partition=uniform` | Each client holds an equal, random part of each class. |" in text
    )
    assert "| `method=promptfl` | PromptFL: one shared prompt, averaged. |" in text
    assert "| `strategy=fedavgm` | `strategy.server_learning_rate`, " in text


def test_the_comment_of_the_default_option_counts(tmp_path: Path) -> None:
    conf = copy_of_conf(tmp_path)
    (conf / "optimizer" / "adamw.yaml").write_text("# Adam.\n\n# Of Adam alone.\nlr: 1\n")
    assert "Of Adam alone" not in reference.configuration(conf)


def test_a_key_that_nothing_explains_is_named(tmp_path: Path) -> None:
    conf = copy_of_conf(tmp_path)
    (conf / "optimizer" / "sgd.yaml").write_text("# SGD.\n\nlr: 1\n")
    (conf / "optimizer" / "adamw.yaml").unlink()
    with pytest.raises(ValueError, match=r"optimizer\.\w+ is explained nowhere"):
        reference.configuration(conf)


def copy_of_conf(folder: Path) -> Path:
    for path in (ROOT / "conf").rglob("*.yaml"):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    return folder / "conf"


def test_every_command_has_its_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = reference.command_line()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(parsers())
    assert "usage: fedrsclip run [-h] [key=value ...]" in text
    assert "usage: fedrsclip data prepare [-h] --from PATH --to DIR name" in text


def test_the_wire_is_described_as_it_is_packed() -> None:
    text = reference.wire()
    assert "| `arrays` | `shared_prompt` | float32 `(n_ctx, width)` |" in text
    assert "| `config` | `client-name` | str |" in text
    assert "| `metrics` | `test-personalized-own-correct` | int |" in text
    assert "| `num-train` | 10,000,000 |" in text
    assert all(f"`{code}`" in text for code in FailureCode)
    evaluation = text[text.index("## Reply to `evaluate`") :]
    assert "arrays" not in evaluation


def test_a_runs_files_are_described_with_the_types_inside() -> None:
    text = reference.run_files()
    assert "| `eval_seconds` | float or null |" in text
    assert "| `personalized` | Spread or null |" in text
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert len(set(titles)) == len(titles)
    assert {"### results.json", "### Spread", "### Volume"} <= set(titles)


def test_each_generated_page_is_filled() -> None:
    pages = [path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")]
    for name in reference.PAGES:
        assert sum(f"<!-- generated: {name} -->" in page for page in pages) == 1
    assert "<!--" not in reference.fill("before\n<!-- generated: wire -->\nafter")
