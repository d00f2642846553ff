"""The public Python API: its names exist, are documented, and cost nothing until they are used."""

import subprocess
import sys
from importlib import import_module

import pytest

import fedrsclip
from tests.unit.documents.markdown import ROOT

pytestmark = pytest.mark.unit

LAZY = [name for name in fedrsclip.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", LAZY)
def test_each_name_exists_and_has_a_docstring(name: str) -> None:
    found = getattr(fedrsclip, name)
    assert found is getattr(import_module(found.__module__), name)
    assert found.__doc__


def test_each_name_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/python.md").read_text()
    assert [name for name in LAZY if f":: fedrsclip.{name}\n" not in page] == []


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        fedrsclip.nonsense  # type: ignore[attr-defined]  # noqa: B018
    assert set(fedrsclip.__all__) <= set(dir(fedrsclip))


def test_importing_it_imports_nothing() -> None:
    code = "import sys, fedrsclip; print([m for m in sys.modules if m.startswith('fedrsclip')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['fedrsclip_core', 'fedrsclip']"
