"""The paper's grid: three sets below one folder, two partitions, two models."""

from pathlib import Path

import pytest

from fedrsclip.bench.cells import Cell, grid
from fedrsclip.bench.description import describe
from fedrsclip.bench.preparation import prepare
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit

ONE = ["bench=paper", "bench.seeds=[0]", "bench.methods=[promptfl]", "bench.reference=null"]
CLIENTS = {"optimal31": 16, "uc_merced": 10, "nwpu_resisc45": 23}


def cells(*more: str) -> list[Cell]:
    return grid(describe([*ONE, *more]))


def test_each_set_is_dealt_both_ways_with_both_models(tmp_path: Path) -> None:
    found = {
        (
            Path(cell.data_path).name,
            cell.config.partition.name,
            cell.config.model.name,
            cell.config.federation.num_clients,
            len(cell.config.data.class_names),
        )
        for cell in cells(f"data.path={tmp_path}")
    }
    sizes = {"optimal31": 31, "uc_merced": 21, "nwpu_resisc45": 45}
    assert found == {
        (name, partition, model, clients, sizes[name])
        for name, clients in CLIENTS.items()
        for partition in ("uniform", "heterogeneous")
        for model in ("clip_vit_b16", "clip_vit_b32")
    }


def test_the_folder_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {cell.data_path for cell in cells()} == {""}
    monkeypatch.setenv("FEDRSCLIP_DATA_PATH", str(tmp_path))
    folders = {cell.data_path for cell in cells()}
    assert folders == {str(tmp_path / name) for name in CLIENTS}


def test_what_a_worker_is_told_has_the_sets_own_folder(tmp_path: Path) -> None:
    (cell,) = cells(f"data.path={tmp_path}", "bench.settings=[uc_merced_uniform_b32]")
    assert cell.job["data_path"] == str(tmp_path / "uc_merced")
    assert cell.at_site(["data.path=/elsewhere"])[-1] == f"data.path='{tmp_path / 'uc_merced'}'"
    assert not any("data.path" in text for text in cell.overrides)


def test_a_set_that_is_missing_is_named_before_anything_runs(tmp_path: Path) -> None:
    description = describe(
        [*ONE, f"data.path={tmp_path}", "bench.settings=[optimal31_uniform_b16]", "model=demo_clip"]
    )
    with pytest.raises(DataError, match=str(tmp_path / "optimal31")):
        prepare(description, grid(description), {})
