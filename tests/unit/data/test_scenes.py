import numpy as np
import pytest

from fedrsclip_core.data.scenes import SceneSource
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
from fedrsclip_core.errors import DataError

pytestmark = pytest.mark.unit


def test_scenes_class_by_class() -> None:
    source = SceneSource([], 3, seed=5, domain=2)
    assert source.class_names == list(CLASS_NAMES)
    assert source.labels.tolist() == np.repeat(np.arange(len(CLASS_NAMES)), 3).tolist()
    expected = render(1, 2, seed=5, domain=2)
    np.testing.assert_array_equal(np.asarray(source.image(5)), expected)


def test_chosen_classes_keep_their_painters() -> None:
    source = SceneSource(["runway", "beach"], 2, seed=0, domain=0)
    expected = render(CLASS_NAMES.index("beach"), 1, seed=0, domain=0)
    np.testing.assert_array_equal(np.asarray(source.image(3)), expected)


def test_identities_are_all_different() -> None:
    sources = [
        SceneSource([], 2, seed=0, domain=0),
        SceneSource([], 2, seed=1, domain=0),
        SceneSource([], 2, seed=0, domain=1),
        SceneSource([], 2, seed=0, domain=0, first=2),
    ]
    hashes = {source.content_hash(i) for source in sources for i in range(len(source))}
    keys = {source.stat_key(i) for source in sources for i in range(len(source))}
    assert len(hashes) == len(keys) == 4 * 2 * len(CLASS_NAMES)


def test_unknown_class() -> None:
    with pytest.raises(DataError, match="no class 'volcano'"):
        SceneSource(["volcano"], 2, seed=0, domain=0)
