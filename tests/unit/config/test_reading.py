"""How images are read, as a configuration says it."""

import json

import pytest

from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading, reading_of, with_own_reading
from fedrsclip_core.config.resolved import from_json, to_json
from fedrsclip_core.config.schema import DataConfig
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("overrides", "reading"),
    [
        ([], AS_THEY_ARE),
        (["data.bands=[4,3,2]"], Reading(("4", "3", "2"))),
        (["data.bands=4"], Reading(("4",))),
        (["data.bands=[B04, B03, B8A]"], Reading(("B04", "B03", "B8A"))),
        (["data.bands=red"], Reading(("red",))),
        (["data.stretch=none"], Reading(stretch=("none",))),
        (["data.stretch=MINMAX"], Reading(stretch=("minmax",))),
        (["data.stretch=percentiles"], Reading(stretch=("percentiles", "2", "98"))),
        (["data.stretch=[percentiles,0.5,99]"], Reading(stretch=("percentiles", "0.5", "99"))),
        (["data.stretch=[0,3000]"], Reading(stretch=("0", "3000"))),
        (["data.stretch=[-0.1,1e4]"], Reading(stretch=("-0.1", "10000"))),
        (["data.stretch=[0,3000,0,2500,100,2000]"], Reading((), (0, 3000, 0, 2500, 100, 2000))),
        (["data.nodata=0"], Reading(nodata=0)),
        (["data.nodata=-9999.5"], Reading(nodata=-9999.5)),
    ],
)
def test_bands_stretch_and_nodata(overrides: list[str], reading: Reading) -> None:
    config = compose(["data=folder", *overrides])
    assert reading_of(config.data) == reading
    assert reading_of(from_json(to_json(config)).data) == reading
    # As it is shown, it can be given again.
    assert reading_of(compose(["data=folder", *str(reading).split()]).data) == reading


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.bands=[1,2]", "data.bands has 2 bands: give one"),
        ("data.bands=[1,2,3,4]", "data.bands has 4 bands"),
        ("data.bands=0", "data.bands has '0': bands are numbered from 1"),
        ("data.bands=[4,3,-2]", "data.bands has '-2'"),
        ("data.bands=[4,3,'']", "data.bands has ''"),
        ("data.bands=null", "data.bands must be a list of texts"),
        ("data.stretch=max", r"data.stretch is \[max\]: give none, minmax"),
        ("data.stretch=[minmax,2]", "data.stretch is"),
        ("data.stretch=[percentiles,2]", "data.stretch is"),
        ("data.stretch=[percentiles,98,2]", "percentiles 98 and 2"),
        ("data.stretch=[percentiles,-1,101]", "percentiles -1 and 101"),
        ("data.stretch=3000", "data.stretch has 1 numbers"),
        ("data.stretch=[0,1,0,1]", "data.stretch has 4 numbers"),
        ("data.stretch=[3000,0]", r"the range \[3000,0\]"),
        ("data.stretch=[0,0]", r"the range \[0,0\]"),
        ("data.stretch=[0,nan]", "its ends must be finite"),
        ("data.stretch=[[0,1],[0,1],[0,1]]", "data.stretch"),
        ("data.nodata=nan", "data.nodata is nan"),
        ("data.nodata=x", "data.nodata must be a number or null"),
    ],
)
def test_anything_else_is_one_sentence(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        compose(["data=folder", override])
    assert "\n" not in str(caught.value)


def test_six_numbers_are_three_bands() -> None:
    with pytest.raises(ConfigError, match=r"data\.stretch has 6 numbers"):
        compose(["data=folder", "data.bands=1", "data.stretch=[0,1,0,1,0,1]"])


def test_a_key_names_one_reading() -> None:
    readings = [
        *(Reading(), Reading(("1",)), Reading(("1", "2", "3")), Reading((), ("minmax",))),
        *(Reading((), ("0", "1")), Reading((), ("0", "1"), 0), Reading(nodata=0)),
    ]
    assert len({reading.key for reading in readings}) == len(readings)
    assert Reading().key == "" and Reading((4, 3, 2), (0, 3e3)) == Reading("432", ("0", "3000.0"))
    assert json.loads(Reading((), ("0", "1"), 0).key)[2] == 0


@pytest.mark.parametrize(
    ("own", "reading"),
    [
        ({}, Reading((4, 3, 2), (0, 3000), 0)),
        ({"bands": "3,2,1"}, Reading((3, 2, 1), (0, 3000), 0)),
        ({"bands": "['red', nir, 3]"}, Reading(("red", "nir", "3"), (0, 3000), 0)),
        ({"stretch": "percentiles"}, Reading((4, 3, 2), ("percentiles",), 0)),
        ({"stretch": "[percentiles, 1, 99]"}, Reading((4, 3, 2), ("percentiles", 1, 99), 0)),
        ({"nodata": "-9999"}, Reading((4, 3, 2), (0, 3000), -9999)),
        ({"bands": "[]", "stretch": "[]", "nodata": "null"}, AS_THEY_ARE),
    ],
)
def test_a_site_replaces_what_it_says(own: dict[str, str], reading: Reading) -> None:
    data = DataConfig(bands=["4", "3", "2"], stretch=["0", "3000"], nodata=0)
    assert reading_of(with_own_reading(data, own)) == reading


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"bands": "1,2"}, "data.bands has 2 bands"),
        ({"stretch": "most"}, r"data.stretch is \[most\]"),
        ({"nodata": "black"}, "data.nodata is 'black'"),
        ({"nodata": "nan"}, "data.nodata is nan"),
    ],
)
def test_a_site_that_says_what_cannot_be_is_refused(own: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_own_reading(DataConfig(), own)
