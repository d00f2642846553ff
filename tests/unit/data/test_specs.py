"""The packaged facts of data sets agree with themselves and with the configuration."""

from dataclasses import replace

import pytest

from fedrsclip.data.specs import SPEC_NAMES, find_spec, read_table, squashed
from fedrsclip.data.union import UNION_NAMES, canonical, class_aliases, union_class_names
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.reading import Reading, reading_of
from fedrsclip_core.data.names import class_words, words_for
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit


def test_the_bands_of_eurosat_are_those_of_its_colours() -> None:
    rgb, bands = compose(["data=eurosat"]).data, compose(["data=eurosat_ms"]).data
    assert reading_of(bands) == Reading(("4", "3", "2"), ("0", "2750"))
    assert replace(bands, bands=[], stretch=[]) == rgb


@pytest.mark.parametrize("name", SPEC_NAMES)
def test_the_configuration_says_what_the_spec_says(name: str) -> None:
    spec, data = find_spec(name), compose([f"data={name}"]).data
    assert data.class_names == list(spec.class_names)
    assert data.near_duplicates == [list(group) for group in spec.near_duplicates]
    assert data.class_words == dict(spec.class_words)
    assert data.hub_id in (None, spec.hub_id)
    assert data.hub_revision == spec.hub_revision


@pytest.mark.parametrize(
    ("name", "classes", "images"),
    [
        ("optimal31", 31, 1860),
        ("uc_merced", 21, 2100),
        ("eurosat", 10, 27000),
        ("nwpu_resisc45", 45, 31500),
    ],
)
def test_sizes(name: str, classes: int, images: int) -> None:
    spec = find_spec(name)
    assert (len(set(spec.class_names)), spec.num_images) == (classes, images)


@pytest.mark.parametrize("name", SPEC_NAMES)
def test_classes_are_told_apart_by_letters_and_by_words(name: str) -> None:
    names = find_spec(name).class_names
    assert len({squashed(n) for n in names}) == len(names)
    assert len(words_for(names, {})) == len(names)


@pytest.mark.parametrize("name", SPEC_NAMES)
def test_citations_are_whole(name: str) -> None:
    entry = find_spec(name).citation
    assert {"type", "key", "author", "title", "year", "pages"} <= entry.keys()
    assert find_spec(name).cite.endswith(entry["year"])


def test_an_unknown_data_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'bigearthnet': choose one of optimal31, uc_merced"):
        find_spec("bigearthnet")


def test_the_union_has_each_class_once() -> None:
    names = union_class_names()
    assert len(names) == 47
    assert set(names) == {*find_spec("nwpu_resisc45").class_names, "agricultural", "buildings"}
    # Two names that read the same, or nearly, would be one class that was not merged.
    assert len({class_words(name).rstrip("s") for name in names}) == 47


def test_synonyms_are_one_word_for_one_meaning() -> None:
    for alias, name in class_aliases().items():
        assert squashed(alias).rstrip("s") == squashed(name).rstrip("s")
        owners = [s for s in UNION_NAMES if alias in find_spec(s).class_names]
        assert owners, f"{alias} is no class"
        assert all(name not in find_spec(s).class_names for s in owners)
    assert not set(read_table("union")["apart"]) & set(class_aliases())
    assert set(read_table("union")["apart"]) <= set(union_class_names())


def test_canonical_names() -> None:
    assert canonical("uc_merced", "mediumresidential") == "medium_residential"
    assert canonical("nwpu_resisc45", "medium_residential") == "medium_residential"
    assert canonical("uc_merced", "buildings") == "buildings"
    with pytest.raises(ConfigError, match="OPTIMAL-31 has no class 'cloud'"):
        canonical("optimal31", "cloud")


def test_the_union_of_the_configuration() -> None:
    data = compose(["data=union"]).data
    assert data.class_names == union_class_names()
    assert data.class_aliases == class_aliases()
    listed = [list(group) for name in UNION_NAMES for group in find_spec(name).near_duplicates]
    assert data.near_duplicates == listed
    assert compose(["experiment=by_dataset"]).partition.datasets == list(UNION_NAMES)
