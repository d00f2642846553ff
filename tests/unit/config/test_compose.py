"""Composition: every recipe and method works, every mistake is one sentence naming the key."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedrsclip.run.own_tuning import write_table
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.compose import (
    compose,
    conf_dir,
    from_run_config,
    get_value,
    recorded_file,
)
from fedrsclip_core.config.overrides import (
    for_simulation,
    join_overrides,
    quote,
    split_site_overrides,
)
from fedrsclip_core.config.schema import Config, OptimizerConfig, StrategyConfig
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.tuned import read_table
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit

BASE = ["method=fedrsclip", "prompt.class_prior=false"]
"""Nothing but what config.yaml and the groups' own defaults say."""


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_the_schema_has_the_values_that_methods_build_on() -> None:
    assert compose(BASE) == Config()


def test_the_default_method_is_fedrsclip_plus() -> None:
    assert compose([]) == compose(["method=fedrsclip_plus"])


@pytest.mark.parametrize("experiment", _options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    overrides = [f"experiment={experiment}"]
    data = configuration.choices(overrides)["data"]
    names = compose(overrides).data.class_names
    assert len(names) >= 10 and names == compose([f"data={data}"]).data.class_names


@pytest.mark.parametrize("method", _options("method"))
def test_every_method_composes(method: str) -> None:
    assert compose([f"method={method}"]).method == method


@pytest.mark.parametrize("partition", _options("partition"))
def test_every_partition_composes(partition: str) -> None:
    data = "union" if partition in ("by_dataset", "given") else "demo_scenes"
    assert compose([f"partition={partition}", f"data={data}"]).partition.name == partition


@pytest.mark.parametrize(
    ("group", "option"),
    [(g, o) for g in ("model", "optimizer", "data", "federation") for o in _options(g)],
)
def test_every_other_option_composes(group: str, option: str) -> None:
    assert compose([f"{group}={option}"])


@pytest.mark.parametrize("name", STRATEGY_PARAMETERS)
def test_an_aggregator_is_named_in_one_word(name: str) -> None:
    strategy = compose([f"strategy={name}"]).strategy
    assert strategy == StrategyConfig(name, proximal_mu=0.01 if name == "fedprox" else 0.0)
    over_fedprox = compose(["experiment=uc_merced", "method=fedprox", f"strategy={name}"])
    assert over_fedprox.strategy == strategy


def test_what_was_tuned_counts_under_its_experiment_and_method() -> None:
    table = read_table(recorded_file())
    assert {m for methods in table.values() for m in methods} <= {*_options("method")}
    for experiment, methods in table.items():
        for method, values in methods.items():
            config = compose([f"experiment={experiment}", f"method={method}"])
            assert {key: get_value(config, key) for key in values} == values
    plain = compose(["experiment=uc_merced", "method=promptfl", "tuned=null"])
    assert plain.optimizer == OptimizerConfig()
    given = ["experiment=uc_merced", "method=fedotp", "optimizer.private_lr=0.5"]
    assert compose(given).optimizer.private_lr == 0.5
    assert compose(given).optimizer.lr == table["uc_merced"]["fedotp"]["optimizer.lr"]
    assert compose(["method=promptfl"]).optimizer == OptimizerConfig()


def test_a_table_keeps_its_form(tmp_path: Path) -> None:
    table = read_table(recorded_file())
    write_table(tmp_path / "tuned.yaml", table)
    assert (tmp_path / "tuned.yaml").read_text() == recorded_file().read_text()
    odd = {"a": {"b": {"optimizer.lr": 1e-05, "optimizer.schedule": "it's", "prompt.beta": None}}}
    write_table(tmp_path / "odd.yaml", odd)
    assert read_table(tmp_path / "odd.yaml") == odd
    assert read_table(tmp_path / "absent.yaml") == {}
    for damaged in ("a: [", "a: 1", "- a"):
        (tmp_path / "odd.yaml").write_text(damaged)
        with pytest.raises(ConfigError, match=r"odd.yaml cannot be read: repair"):
            read_table(tmp_path / "odd.yaml")


def test_what_was_tuned_for_one_option_is_not_given_to_another() -> None:
    recipe = ["experiment=uc_merced", "method=promptfl"]
    tuned = compose(recipe).optimizer
    assert (tuned.name, tuned.lr) == ("sgd", 2.0)
    adamw = compose([*recipe, "optimizer=adamw"]).optimizer
    assert adamw == compose(["method=promptfl", "optimizer=adamw"]).optimizer
    assert (adamw.lr, adamw.private_lr) == (0.002, None)
    assert compose([*recipe, "optimizer=adamw", "optimizer.lr=0.5"]).optimizer.lr == 0.5
    assert compose([*recipe, "optimizer=sgd"]).optimizer == tuned


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("promptfl_ft", "federation=demo"),
        ("fedprox", "strategy=fedmedian"),
        ("fedrsclip", "optimizer=adamw"),
        ("fedrsclip", "partition=uniform"),
        ("local", "data=demo_scenes"),
        ("local", "model=clip_vit_b16"),
        ("local", "privacy=simulation"),
    ],
)
def test_a_named_option_holds_what_its_file_and_the_method_say(method: str, named: str) -> None:
    """And no other group changes by its being named."""
    group = named.partition("=")[0]
    # Four clients with four classes each could not hold the classes of the other recipe.
    experiment = f"experiment=uc_merced{'_uniform' if group == 'federation' else ''}"
    alone = asdict(compose([f"method={method}", named]))
    recipe = asdict(compose([experiment, f"method={method}"]))
    both = asdict(compose([experiment, f"method={method}", named]))
    assert both.pop(group) == alone[group]
    del recipe[group]
    if method == "promptfl_ft":  # as many epochs as the federation has rounds
        assert both["prompt"].pop("finetune_epochs") == alone["federation"]["num_rounds"]
        del recipe["prompt"]["finetune_epochs"]
    assert both == recipe


def test_what_makes_a_method_holds_with_each_option() -> None:
    frozen = compose(
        ["method=fedrsclip_frozen_shared", "optimizer=adamw", "optimizer.private_lr=1"]
    )
    assert (frozen.optimizer.name, frozen.optimizer.lr) == ("adamw", 0)
    assert compose(["method=zero_shot", "federation=deployment"]).federation.num_rounds == 0


def test_groups_without_an_option() -> None:
    recipe = ["experiment=uc_merced", "method=promptfl"]
    assert compose([*recipe, "tuned=null"]).optimizer.lr == 0.1
    assert compose(["experiment=null", "tuned=null"]) == compose([])


def test_only_a_simulation_tells_counts_per_class() -> None:
    assert not any(
        compose([f"federation={f}"]).privacy.share_label_counts for f in ("demo", "uc_merced")
    )
    assert compose(for_simulation(["seed=1"])).privacy.share_label_counts
    for said in ("privacy=deployment", "privacy.share_label_counts=false"):
        assert not compose(for_simulation([said])).privacy.share_label_counts


def test_methods_differ_where_they_should() -> None:
    promptfl = compose(["experiment=uc_merced", "method=promptfl"])
    assert (promptfl.prompt.shared, promptfl.prompt.private) == (True, False)
    assert promptfl.loss.lambda_fused == promptfl.loss.lambda_cmfac == 0
    local = compose(["method=local"])
    assert (local.prompt.shared, local.loss.lambda_private) == (False, 1.0)
    assert compose(["method=zero_shot", "experiment=uc_merced"]).federation.num_rounds == 0
    fine_tuned = compose(["method=promptfl_ft", "federation.num_rounds=7"])
    assert fine_tuned.prompt.finetune_epochs == 7
    assert compose(["method=fedprox"]).strategy.proximal_mu > 0


def test_yaml_files_hold_every_key_of_the_schema() -> None:
    printed = yaml.safe_load(configuration.to_yaml(compose(BASE), site_keys=True))
    assert dict(_leaves(printed)) == dict(_leaves(asdict(Config())))


def test_yaml_without_site_keys() -> None:
    config = compose(["data.path=/somewhere/secret", "federation.device=cpu"])
    assert "secret" in configuration.to_yaml(config, site_keys=True)
    printed = configuration.to_yaml(config, site_keys=False)
    assert "secret" not in printed
    assert not set(SITE_KEYS) & set(dict(_leaves(yaml.safe_load(printed))))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prompt.nctx=3"], ["prompt.nctx", "did you mean prompt.n_ctx?"]),
        (["n_ctx=3"], ["n_ctx", "prompt.n_ctx"]),
        (["method=prompfl"], ["method=prompfl", "promptfl?", "zero_shot"]),
        (["model=vit"], ["model=vit", "clip_vit_b16"]),
        (["optimizer={lr: 3}"], ["optimizer", "adamw"]),
        (["prompt=dual"], ["prompt is not a key"]),
        (["strategy=fedmad"], ["strategy=fedmad", "fedadam"]),
        (["tuned=uc_merced"], ["tuned=uc_merced", "recorded or null"]),
        (["hydra.run.dir=x"], ["hydra.run.dir", "not a key"]),
        (["prompt.n_ctx=four"], ["prompt.n_ctx", "an integer", "four"]),
        (["prompt.n_ctx=4.5"], ["prompt.n_ctx", "an integer"]),
        (["prompt.n_ctx=null"], ["prompt.n_ctx", "an integer"]),
        (["prompt.shared=maybe"], ["prompt.shared", "true or false"]),
        (["optimizer.lr=[1]"], ["optimizer.lr", "a number"]),
        (["data.class_names=beach"], ["data.class_names", "a list of texts"]),
        (["data.class_names={a: b}"], ["data.class_names", "a list of texts"]),
        (["data.class_words=[a]"], ["data.class_words", "a mapping"]),
        (["prompt.n_ctx=0"], ["prompt.n_ctx is 0", "at least 1"]),
        (["optimizer.lr=0", "optimizer.private_lr=null"], ["optimizer.lr is 0", "above 0"]),
        (["method=promptfl", "optimizer.lr=0"], ["optimizer.lr is 0", "above 0"]),
        (["optimizer.lr=-1"], ["optimizer.lr is -1", "at least 0"]),
        (["optimizer.lr=nan"], ["optimizer.lr is nan", "finite"]),
        (["prompt.beta=1.5"], ["prompt.beta is 1.5", "[0, 1]"]),
        (["optimizer.momentum=1"], ["optimizer.momentum", "[0, 1)"]),
        (["prompt.fusion=gate", "prompt.beta=1"], ["prompt.beta", "between 0 and 1"]),
        (["prompt.fusion=mean"], ["prompt.fusion", "class_gate"]),
        (["method=fedotp", "loss.lambda_cmfac=0.3"], ["loss.lambda_cmfac", "transport"]),
        (["method=promptfl", "prompt.fusion=transport"], ["transport", "two prompts"]),
        (["prompt.transport_eps=0.01"], ["prompt.transport_eps is 0.01", "at least 0.03"]),
        (["prompt.transport_mass=0"], ["prompt.transport_mass", "(0, 1]"]),
        (["method=fedpgp", "prompt.private_rank=5"], ["private_rank is 5", "n_ctx is 4"]),
        (["prompt.private_rank=0"], ["prompt.private_rank is 0", "at least 1"]),
        (["method=local", "prompt.private_rank=2"], ["prompt.private_rank", "prompt.shared"]),
        (["method=promptfl", "loss.lambda_contrast=1"], ["lambda_contrast", "prompt.private"]),
        (["loss.contrast_temperature=0"], ["loss.contrast_temperature", "above 0"]),
        (["prompt.shared_offsets=rank:0"], ["prompt.shared_offsets is 'rank:0'", "basis:<size>"]),
        (["prompt.shared_offsets=ful"], ["prompt.shared_offsets is 'ful'", "full"]),
        (["prompt.shared_offsets_dtype=int4"], ["prompt.shared_offsets_dtype", "int8"]),
        (
            ["method=promptfl", "prompt.shared_offsets_dtype=int8"],
            ["shared_offsets_dtype is int8", "prompt.shared_offsets is null"],
        ),
        (["method=fedotp", "prompt.class_prior=true"], ["prompt.fusion=transport", "class_prior"]),
        (
            ["loss.shared_gradient=coupled"],
            ["loss.shared_gradient is coupled", "both sides have class offsets"],
        ),
        (
            ["method=fedpgp", "loss.shared_gradient=decoupled"],
            ["loss.shared_gradient is decoupled", "prompt.private_rank"],
        ),
        (["method=promptfl", "prompt.finetune_bias=true"], ["finetune_bias", "finetune_epochs"]),
        (
            ["method=promptfl_ft", "prompt.shared_offsets=full"],
            ["prompt.finetune_epochs", "prompt.shared_offsets to null"],
        ),
        (["loss.dpac_form=few"], ["loss.dpac_form", "scarce"]),
        (["loss.cmfac_form=white"], ["loss.cmfac_form", "whitened"]),
        (["model.dtype=float16"], ["model.dtype is 'float16'", "bfloat16"]),
        (["optimizer.name=lion"], ["optimizer.name", "adamw"]),
        (["prompt.templates=[a photo]"], ["prompt.templates", "'a photo'", "{}"]),
        (["prompt.templates=['{} or {x}']"], ["prompt.templates", "no other brace"]),
        (["prompt.templates=[]"], ["prompt.templates is empty"]),
        (["method=fedrsclip", "prompt.private=false"], ["loss.lambda_fused", "prompt.private"]),
        (["method=zero_shot", "federation.num_rounds=3"], ["federation.num_rounds", "no prompt"]),
        (["method=promptfl", "loss.lambda_shared=0"], ["lambda_*"]),
        (["strategy.tau=1"], ["strategy.tau", "fedavg", "fedadam"]),
        (["federation.min_replies=5"], ["federation.min_replies is 5", "num_clients is 4"]),
        (["data.val_fraction=0.5", "data.test_fraction=0.5"], ["data.val_fraction", "train"]),
        (["data.class_names=[a,b,a]"], ["data.class_names", "'a' twice"]),
        (["data=uc_merced", "data.class_words.lake=a lake"], ["data.class_words", "lake"]),
        (["data=union", "data.class_aliases.tarmac=road"], ["data.class_aliases", "'road'"]),
        (["data=union", "data.class_aliases.lake=river"], ["data.class_aliases", "'lake'"]),
        (["partition=by_dataset"], ["data.name is demo_scenes", "data=union"]),
        (["data=union", "partition.name=by_dataset"], ["partition.datasets", "at least one"]),
        (
            ["data=union", "partition=by_dataset", "partition.datasets=[../a]"],
            ["partition.datasets", "../a"],
        ),
        (["data=folder", "partition=site"], ["data.class_names", "partition=site"]),
        (["partition=given"], ["partition=given", "data=folder"]),
        (["data=folder", "data.other_classes=ignore"], ["data.other_classes", "data.class_names"]),
        (["data=union", "data.other_classes=maybe"], ["data.other_classes", "refuse, ignore"]),
        (
            ["experiment=uc_merced", "partition.num_classes_per_partition=2"],
            ["partition.num_classes_per_partition", "10 clients x 2 classes", "21 classes"],
        ),
        (["run.name=../up"], ["run.name"]),
        (["model.hub_id=/data/models/clip"], ["model.hub_id", "not a path"]),
        (["federation.device=tpu"], ["federation.device", "cuda"]),
        (["prompt.n_ctx=1,2"], ["prompt.n_ctx", "several values"]),
        (["prompt.n_ctx"], ["'prompt.n_ctx'", "key=value"]),
        (["~method"], ["~method", "key=value"]),
        (["seed=("], ["seed", "quotes"]),
        (["seed=${oc.env:HOME}"], ["seed", "${"]),
        (["model.name=_target_"], ["model.name", "_target_"]),
    ],
)
def test_a_mistake_is_one_sentence_naming_the_key(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize(
    "value",
    [
        r"$\{oc.$\{run.name\}:SOME_VARIABLE\}",
        r"'$\{oc.'$\{run.name\}",
        r"$\{run.name\}",
        r"\$\{run.name\}",
        "'${run.name}'",
    ],
)
@pytest.mark.parametrize("key", ["prompt.shared_init", "data.class_words.a", "model.revision"])
def test_no_interpolation_is_evaluated_however_it_is_hidden(
    value: str, key: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "ZZsecretZZ")
    for text in (value, f"[{value}]", f"{{a: {value}}}"):
        with pytest.raises(ConfigError) as caught:
            compose(["run.name=env", f"{key}={text}"])
        assert "ZZsecretZZ" not in str(caught.value)
    assert "ZZsecretZZ" not in "".join(capfd.readouterr())


def test_run_config_is_composed_like_a_command_line() -> None:
    overrides = ["data.class_words.golf_course=golf, 'the' course", "seed=3", "prompt.n_ctx=2"]
    overrides[0] = f"data.class_words.golf_course={quote(overrides[0].partition('=')[2])}"
    config = from_run_config({configuration.OVERRIDES_KEY: join_overrides(overrides)})
    assert config == compose(overrides)
    assert config.data.class_words == {"golf_course": "golf, 'the' course"}
    assert from_run_config({}) == compose([])


@pytest.mark.parametrize("key", SITE_KEYS)
def test_a_site_key_must_not_travel_and_is_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)) as caught:
        from_run_config({configuration.OVERRIDES_KEY: f"seed=1 +{key}=/secret/place"})
    assert "secret" not in str(caught.value)


def test_an_unbalanced_quote_in_the_run_config() -> None:
    with pytest.raises(ConfigError, match="unbalanced quote"):
        from_run_config({configuration.OVERRIDES_KEY: "run.name='x"})


def test_site_values_are_literal() -> None:
    path = "/data/with (odd), [names]=1"
    travelling, site = split_site_overrides([f"data.path={path}", "seed=1"])
    assert (travelling, site) == (["seed=1"], {"data.path": path})
    assert compose([f"data.path={path}"]).data.path == path
    assert compose(["data.path=null"]).data.path is None


@pytest.mark.parametrize(
    "text", ["", "plain", "it's", "a, b", "back\\slash", "end\\", "\\'", "a\\\\'b'", "{x} [y]", "é"]
)
def test_quoted_text_survives_the_grammar(text: str) -> None:
    assert compose([f"data.class_words.x={quote(text)}"]).data.class_words == {"x": text}


def test_a_composition_does_not_disturb_the_next() -> None:
    first = compose(["seed=1"])
    compose(["seed=2", "method=local"])
    assert compose(["seed=1"]) == first
    assert configuration.choices(["data=uc_merced"])["data"] == "uc_merced"
