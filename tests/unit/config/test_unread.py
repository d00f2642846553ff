"""A key that is given is read, or refused; what recipes set may be for other options."""

from pathlib import Path

import pytest

from fedrsclip.bench.cells import grid, refuse_unread, repeat_command
from fedrsclip.bench.description import describe
from fedrsclip_core.config.compose import compose, from_run_config
from fedrsclip_core.config.overrides import split_overrides
from fedrsclip_core.config.schema import Config, keys
from fedrsclip_core.config.unread import READERS, unread_keys
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("overrides", "key", "reader"),
    [
        (["data=demo_scenes", "data.path=/images"], "data.path", "data=folder"),
        (["data=folder", "data.hub_id=a/b"], "data.hub_id", "data=hub"),
        (["data=hub", "data.path=/copy", "data.hub_id=a/b"], "data.hub_id", "without data.path"),
        (["data=folder", "data.hub_revision=v1"], "data.hub_revision", "data=hub"),
        (["data=folder", "data.label_column=y"], "data.label_column", "data=hub"),
        (["data=uc_merced", "data.images_per_class=9"], "data.images_per_class", "demo_scenes"),
        (["data.near_duplicates=[[a/b,a/c]]"], "data.near_duplicates", "data=folder"),
        (["data.class_aliases.a=b"], "data.class_aliases", "data=folder"),
        (["partition.alpha=0.1"], "partition.alpha", "partition=dirichlet"),
        (
            ["partition=dirichlet", "partition.num_classes_per_partition=2"],
            "partition.num_classes_per_partition",
            "partition=heterogeneous",
        ),
        (["partition.datasets=[a,b]"], "partition.datasets", "partition=by_dataset"),
        (["optimizer=adamw", "optimizer.momentum=0.5"], "optimizer.momentum", "name=sgd"),
        (["optimizer.name=adam", "optimizer.momentum=0.5"], "optimizer.momentum", "name is adam"),
        (["model=local", "model.path=/c", "model.hub_id=a/b"], "model.hub_id", "model.path"),
        (["model.revision=main"], "model.revision", "model.hub_id is null"),
        (["method=zero_shot", "optimizer.lr=1"], "optimizer.lr", "method is zero_shot"),
        (["method=class_offsets", "prompt.n_ctx=8"], "prompt.n_ctx", "shared_offsets is full"),
        (["method=promptfl", "prompt.private_init=random"], "prompt.private_init", "is false"),
        (["method=fedpgp", "prompt.private_init=random"], "prompt.private_init", "private_rank"),
        (["method=local", "prompt.shared_init=a map of"], "prompt.shared_init", "is false"),
        (["method=promptfl", "prompt.init_std=0.1"], "prompt.init_std", "random"),
        (["method=promptfl", "prompt.beta=0.5"], "prompt.beta", "fuses"),
        (["method=fedotp", "prompt.beta=0.5"], "prompt.beta", "fusion is transport"),
        (["method=fedrsclip", "prompt.transport_mass=0.5"], "prompt.transport_mass", "transport"),
        (["method=promptfl", "optimizer.private_lr=0.5"], "optimizer.private_lr", "private side"),
        (["method=promptfl", "optimizer.offsets_lr=0.5"], "optimizer.offsets_lr", "null"),
        (["method=promptfl", "prompt.finetune_lr=0.5"], "prompt.finetune_lr", "epochs is 0"),
        (["loss.contrast_temperature=0.1"], "loss.contrast_temperature", "lambda_contrast"),
        (["loss.lambda_dpac=0", "loss.dpac_form=own"], "loss.dpac_form", "lambda_dpac is 0"),
        (["federation.eval_every=2"], "federation.eval_every", "fraction_train is 1"),
        (["strategy=fedmedian", "strategy.weights=equal"], "strategy.weights", "fedmedian"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(overrides: list[str], key: str, reader: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    sentence = str(caught.value)
    assert sentence.startswith(f"{key} is given but this run does not read it: ")
    assert reader in sentence and "\n" not in sentence
    # What is not given for this very run is no mistake.
    assert compose(overrides, given=())


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=hub", "data.hub_id=a/b", "data.label_column=y", "data.max_unreadable=0"],
        ["data=hub", "data.path=/copy", "data.hub_id=null"],
        ["partition=dirichlet", "partition.alpha=0.1"],
        ["method=promptfl", "prompt.n_ctx=8", "prompt.shared_init=random", "prompt.init_std=0.1"],
        ["prompt.n_ctx=8"],
        ["method=fedotp", "prompt.transport_mass=0.5"],
        ["optimizer.momentum=0.5", "loss.dpac_form=own", "loss.lambda_contrast=0"],
        ["model=clip_vit_b32", "model.revision=null", "model.path=/copy"],
        ["federation.fraction_train=0.5", "federation.eval_every=2"],
    ],
)
def test_a_key_that_something_reads_is_taken(overrides: list[str]) -> None:
    assert compose(overrides)


@pytest.mark.parametrize(
    ("overrides", "data", "model"),
    [
        (["data.path=/images"], "folder", "demo_clip"),
        (["data.hub_id=a/b"], "hub", "demo_clip"),
        (["model.path=/clip"], "demo_scenes", "local"),
        (["data.path=/images", "experiment=null"], "folder", "demo_clip"),
        (["data.path=null"], "demo_scenes", "demo_clip"),
        (["data=hub", "data.path=/copy"], "hub", "demo_clip"),
        (["experiment=uc_merced", "data.path=/images", "model.path=/clip"], "folder", "local"),
        (["model=clip_vit_b16", "model.path=/clip"], "demo_scenes", "clip_vit_b16"),
    ],
)
def test_a_place_implies_its_option(overrides: list[str], data: str, model: str) -> None:
    config = compose(overrides)
    assert (config.data.name, config.model.name) == (data, model)


def test_the_table_names_keys_and_what_decides_is_one() -> None:
    for reader in READERS:
        assert {*reader.keys, *reader.because} <= {*keys(), "method"}
    assert "data.path" in unread_keys(Config())


def test_a_server_that_composes_refuses_it_too() -> None:
    with pytest.raises(ConfigError, match=r"partition\.alpha is given"):
        from_run_config({"hydra-overrides": "partition.alpha=0.1"})


def test_a_grid_may_say_what_not_every_cell_reads() -> None:
    small = ["bench.settings=[uniform]", "bench.methods=[zero_shot,promptfl]", "bench.seeds=[0]"]
    small.append("bench.reference=null")
    cells = grid(given := describe(["bench=uc_merced", *small, "prompt.n_ctx=2"]))
    refuse_unread(given, cells)
    commands = [split_overrides(repeat_command(cell)) for cell in cells]
    assert ["prompt.n_ctx=2" in words for words in commands] == [False, True]
    assert all(compose(words[2:]) for words in commands)


def test_a_key_that_no_cell_reads_is_refused(tmp_path: Path) -> None:
    for override, key in (
        ("partition.alpha=0.1", "partition.alpha"),
        (f"data.path={tmp_path}", "data.path"),
    ):
        description = describe(
            ["bench=demo", "bench.seeds=[0]", "bench.methods=[fedrsclip_plus]", override]
        )
        with pytest.raises(ConfigError, match=f"{key} is given but"):
            refuse_unread(description, grid(description))
