"""No test touches the user's own home; whole federations run one after the other."""

from pathlib import Path

import pytest

FEDERATIONS = {"test_deploy.py", "test_faults.py", "test_faults_sites.py", "test_loopback.py"}
"""Of a dozen processes and more, which mostly wait for deadlines: two at once would miss them."""


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_HOME", str(tmp_path / "fedrsclip-home"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.path.name not in FEDERATIONS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Where each process gets whole files, give all federations to one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "federations" if Path(file).name in FEDERATIONS else file

    return ByFile(config, log)
