import pytest

from fedrsclip_core.data.names import class_words, words_for
from fedrsclip_core.demo.scenes import CLASS_NAMES
from fedrsclip_core.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("denseresidential", "dense residential"),
        ("DenseResidential", "dense residential"),
        ("StorageTanks", "storage tanks"),
        ("golf_course", "golf course"),
        ("golfcourse", "golf course"),
        ("mobilehomepark", "mobile home park"),
        ("ground_track_field", "ground track field"),
        ("HerbaceousVegetation", "herbaceous vegetation"),
        ("SeaLake", "sea or lake"),
        ("baseball diamond", "baseball diamond"),
        ("AnnualCrop", "annual crop"),
        ("BareLand", "bare land"),
        ("forest", "forest"),
        ("Port", "port"),
        ("wind-farm", "wind farm"),
        ("OpenGLArea", "open gl area"),
        ("UAVImages", "uav images"),
    ],
)
def test_names_become_words(name: str, words: str) -> None:
    assert class_words(name) == words


def test_demo_classes_have_no_glued_words() -> None:
    words = words_for(CLASS_NAMES, {})
    glued = {"denseresidential", "parkinglot", "solarfarm", "sparseresidential", "storagetanks"}
    assert not glued & set(words)


def test_overrides_stand_as_they_are() -> None:
    words = words_for(["river", "chaparral"], {"chaparral": "dry shrub land"})
    assert words == ["river", "dry shrub land"]


def test_override_of_an_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match="'rivers'"):
        words_for(["river"], {"rivers": "stream"})


def test_classes_that_read_the_same_are_named() -> None:
    with pytest.raises(ConfigError, match="'golfcourse' and 'golf_course'"):
        words_for(["golfcourse", "golf_course"], {})


def test_name_without_words() -> None:
    with pytest.raises(ConfigError, match="class_words"):
        class_words("__")
