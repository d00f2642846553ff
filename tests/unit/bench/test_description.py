"""Descriptions: every one that is shipped is sound, every mistake is one sentence."""

from pathlib import Path

import pytest

from fedrsclip.bench import description, optional
from fedrsclip.bench.cells import grid, repeat_command
from fedrsclip.bench.command import PROTOCOLS
from fedrsclip.bench.description import GRIDS, describe, names
from fedrsclip.cli import main
from fedrsclip_core.config.compose import compose
from fedrsclip_core.errors import ConfigError, FedRSCLIPError
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.digests import app_files, config_digest

pytestmark = pytest.mark.unit

TINY = """
settings:
  few: [federation.num_clients=2, federation.num_rounds=1]
  many: [federation.num_clients=4, federation.num_rounds=1]
methods: [promptfl, mine]
method_overrides:
  mine: [method=fedrsclip, loss.lambda_dpac=0]
seeds: [0, 7]
overrides: [prompt.n_ctx=5]
"""


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return f"bench={tmp_path / 'tiny.yaml'}"


@pytest.mark.parametrize("name", names())
def test_every_setting_and_every_method_composes(name: str) -> None:
    bench = describe([f"bench={name}"]).bench
    assert bench.name == name
    # Not each with each: a composition takes its time.
    last, first = bench.methods[-1], next(iter(bench.settings))
    for cell in grid(describe([f"bench={name}", f"bench.seeds=[{bench.seeds[0]}]"])):
        if cell.method == last or (cell.setting == first and name == "uc_merced"):
            assert cell.config.run.name == cell.name


def test_the_grid_is_settings_by_seeds_by_methods(tiny: str) -> None:
    cells = grid(describe([tiny]))
    assert [(c.setting, c.seed, c.method) for c in cells] == [
        (setting, seed, method)
        for setting in ("few", "many")
        for seed in (0, 7)
        for method in ("promptfl", "mine")
    ]
    last = cells[-1]
    assert last.name == "bench-tiny-many-mine-seed7"
    assert last.folder == paths.runs_dir() / last.name


def test_a_cell_is_an_ordinary_run(tiny: str) -> None:
    cell = grid(describe([tiny, "optimizer.lr=0.2", "prompt.n_ctx=6"]))[-1]
    config = cell.config
    assert (config.method, config.seed, config.run.name) == ("fedrsclip", 7, cell.name)
    assert (config.loss.lambda_dpac, config.optimizer.lr, config.prompt.n_ctx) == (0, 0.2, 6)
    assert config_digest(config) == config_digest(compose(cell.submitted))
    assert repeat_command(cell) == (
        "fedrsclip run federation.num_clients=4 federation.num_rounds=1 prompt.n_ctx=6 "
        "method=fedrsclip optimizer.lr=0.2 loss.lambda_dpac=0 seed=7"
    )


def test_the_command_line_changes_the_grid(tiny: str) -> None:
    changed = ["bench.settings=[many]", "bench.methods=[local]", "bench.seeds=[3]", "bench.jobs=2"]
    found = describe([tiny, *changed, "bench.name=other", "data.path=/images"])
    (cell,) = grid(found)
    assert cell.name == "bench-other-many-local-seed3"
    assert found.bench.jobs == 2
    assert found.site == ("data.path=/images",)
    assert not any("/images" in text for text in cell.overrides)
    assert found.folder == paths.bench_dir("other")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["bench=NAME", "demo"]),
        (["bench=demmo"], ["bench=demmo does not exist", "demo"]),
        (["bench=nowhere.yaml"], ["no description", "nowhere.yaml"]),
        (["bench=demo", "bench.sedes=[1]"], ["sedes", "demo.yaml"]),
        (["bench=demo", "bench.seeds=[one]"], ["seeds", "one"]),
        (["bench=demo", "bench.seeds=[]"], ["bench.seeds is empty"]),
        (["bench=demo", "bench.seeds=[1,1]"], ["bench.seeds", "twice"]),
        (["bench=demo", "bench.settings=[lake]"], ["'lake'", "uniform"]),
        (["bench=demo", "bench.name=a/b"], ["a/b"]),
        (["bench=demo", "bench.jobs=0"], ["bench.jobs is 0"]),
        (["bench=demo", "bench.engine=slurm"], ["bench.engine is slurm", "local, ray"]),
        (["bench=demo", "bench.address=auto"], ["bench.address", "bench.engine=ray"]),
        (["bench=demo", "bench.cell_gpus=0.5"], ["bench.cell_gpus", "bench.engine=ray"]),
        (
            ["bench=demo", "bench.engine=ray", "bench.cell_cpus=0"],
            ["bench.cell_cpus is 0", "more than 0"],
        ),
        (
            ["bench=demo", "bench.engine=ray", "bench.cell_gpus=1.5"],
            ["bench.cell_gpus is 1.5", "whole GPUs"],
        ),
        (["bench=demo", "bench.shard=3"], ["bench.shard is 3", "3/10"]),
        (["bench=demo", "bench.shard=0/2"], ["bench.shard is 0/2", "from 1/10"]),
        (["bench=demo", "bench.shard=3/2"], ["bench.shard is 3/2"]),
        (["bench=uc_merced_tune", "bench.shard=1/2"], ["bench.shard", "tune", "bench.engine=ray"]),
        (["bench=demo", "bench.protocol=odd"], ["bench.protocol", "standard"]),
        (["bench=demo", "bench.reference=local"], ["bench.reference is local"]),
        (["bench=demo", "bench.baselines=[probe]"], ["'probe'", "local_lda"]),
        (
            ["bench=demo", "bench.methods=[fedncm]", "bench.reference=null"],
            ["fedncm is a baseline"],
        ),
        (["bench=demo", "seed=3"], ["seed", "bench.seeds"]),
        (["bench=demo", "run.name=x"], ["run.name", "bench.name"]),
        (["bench=demo", "method=local"], ["method", "bench.methods"]),
    ],
)
def test_a_mistake_is_a_sentence(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        describe(arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


def test_without_the_optional_packages_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(optional, "find_spec", lambda module: None)
    assert describe(["bench=demo"]).bench.baselines  # none of them needs more
    with pytest.raises(ConfigError) as caught:
        describe(["bench=demo", "bench.baselines=[local_lda]"])
    with pytest.raises(ConfigError, match="a table of differences over 6 seeds or more needs"):
        describe(["bench=demo", "bench.seeds=[0,1,2,3,4,5]"])
    assert describe(["bench=demo", "bench.seeds=[0,1,2,3,4,5]", "bench.reference=null"])
    assert "local_lda needs scikit-learn and scipy: pip install 'fedrsclip[bench]'" in str(
        caught.value
    )


def test_a_wrong_override_is_known_before_anything_runs(tiny: str) -> None:
    (cell, *_) = grid(describe([tiny, "prompt.nctx=3"]))
    with pytest.raises(ConfigError, match=r"prompt\.nctx"):
        _ = cell.config


@pytest.mark.parametrize("name", ["optimal31", "nwpu_resisc45"])
@pytest.mark.parametrize(
    ("given", "words"),
    [([], "data.path is not set"), (["data.path=no-such-folder"], "no-such-folder")],
)
def test_without_data_there_is_one_sentence(
    name: str, given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", f"bench={name}", "model=demo_clip", *given]) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert (printed.out + printed.err).count("\n") == 1


def test_a_name_that_no_folder_can_have_is_refused(tiny: str) -> None:
    with pytest.raises(FedRSCLIPError, match="name of a cell"):
        grid(describe([tiny, f"bench.name={'x' * 90}"]))


def test_every_protocol_has_its_function() -> None:
    assert tuple(PROTOCOLS) == description.PROTOCOLS


def test_descriptions_do_not_travel() -> None:
    assert not [name for name, path in app_files().items() if path.is_relative_to(GRIDS)]
