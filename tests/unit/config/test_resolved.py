"""The configuration that travels: read back as it was, or refused in a sentence."""

import json
from collections.abc import Callable
from typing import Any
from unicodedata import is_normalized

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrsclip_core.config.compose import compose, from_run_config, to_run_config
from fedrsclip_core.config.resolved import from_json, to_json
from fedrsclip_core.config.schema import Config, keys
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit


def changed(key: str, value: object) -> str:
    """Return the default configuration as it travels, with another value at a dotted key."""
    values = json.loads(to_json(Config()))
    *sections, name = key.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[name] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    "overrides",
    [[], ["experiment=uc_merced"], ["experiment=by_dataset"], ["method=promptfl_ft", "seed=3"]],
)
def test_what_was_composed_is_read_back(overrides: list[str]) -> None:
    config = compose(overrides)
    text = to_json(config)
    assert from_json(text) == config
    assert to_json(from_json(text)) == text


def test_site_keys_stay_here() -> None:
    config = compose(["data.path=/secret/a", "model.path=/secret/b", "federation.device=cpu"])
    text = to_json(config)
    assert "secret" not in text and 'cpu"' not in text
    assert from_json(text) == compose(["data=folder", "model=local"])


@pytest.mark.parametrize("key", SITE_KEYS)
def test_a_site_key_that_travels_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} belongs to a site") as caught:
        from_json(changed(key, "/secret/place"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", [key for key in keys() if key not in SITE_KEYS])
def test_each_key_must_be_there_with_its_type(key: str) -> None:
    for wrong in ({"a": {}}, [[[]]], [3], object):
        with pytest.raises((ConfigError, TypeError), match=f"{key} must be|not JSON serializable"):
            from_json(changed(key, wrong))
    values = json.loads(to_json(Config()))
    *sections, name = key.split(".")
    del (values[sections[0]] if sections else values)[name]
    with pytest.raises(ConfigError, match=f"lacks {key}"):
        from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed("prompt.n_ctx", True), "prompt.n_ctx must be an integer"),
        (changed("prompt.n_ctx", 4.0), "prompt.n_ctx must be an integer"),
        (changed("optimizer.lr", "0.1"), "optimizer.lr must be a number"),
        (changed("prompt.shared", 1), "prompt.shared must be true or false"),
        (changed("run.name", 7), "run.name must be a text or null"),
        (changed("data.class_names", ["a", None]), "data.class_names must be a list of texts"),
        (changed("data.class_words", {"a": 1}), "data.class_words must be a mapping"),
        (changed("data.near_duplicates", ["a"]), "data.near_duplicates must be a list of lists"),
        (changed("data", []), "data must be a mapping"),
        (changed("prompt.secret", 1), "prompt.secret is not a key"),
        (changed("prompt.n_ctx", 0), "prompt.n_ctx is 0: it must be at least 1"),
        (changed("run.name", "../up"), "run.name"),
        (to_json(Config()).replace('"seed": 0', '"seed": 0, "seed": 1'), "twice"),
        (to_json(Config()).replace('"lr": 0.1', '"lr": NaN'), "NaN"),
        (to_json(Config()).replace('"lr": 0.1', '"lr": 1e999'), "finite"),
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("null", "must be a mapping"),
    ],
)
def test_anything_else_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "$\\{oc.env:HOME\\}", "${seed}"])
def test_nothing_is_evaluated(text: str) -> None:
    config = from_json(changed("prompt.shared_init", text))
    assert config.prompt.shared_init == text


PRINTABLE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])).filter(
    lambda text: is_normalized("NFC", text) and is_normalized("NFC", text[::-1])
)


@given(text=PRINTABLE, rate=st.floats(min_value=1e-9, max_value=1e9))
def test_any_printable_text_and_number_travels(text: str, rate: float) -> None:
    config = Config()
    config.data.class_words, config.optimizer.lr = {text: text[::-1]}, rate
    assert from_json(to_json(config)) == config


def test_the_server_composes_only_what_nobody_has() -> None:
    config = compose(["seed=3", "federation.device=cpu", "model.path=/secret", "model=demo_clip"])
    submitted: dict[str, Any] = dict(to_run_config(config, ["seed=3"]))
    assert "secret" not in str(submitted)
    read: Callable[[dict[str, Any]], Config] = lambda run: from_run_config(run, simulation=True)  # noqa: E731
    assert read(submitted) == compose(["seed=3"])
    assert read(submitted | {"hydra-overrides": "seed=4"}).seed == 3
    composed = read(submitted | {"configuration": ""})
    assert (composed.seed, composed.privacy.share_label_counts) == (3, True)
    assert not from_run_config({}, simulation=False).privacy.share_label_counts
