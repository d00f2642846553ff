"""Features computed in bfloat16 take two bytes a number on disk and lose nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from client_app.features import pooled
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.reading import AS_THEY_ARE
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.data.features.bfloat16 import bits_of
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.folders.source import FolderSource
from tests.tiny_clip import make_tiny_clip
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_the_cache_returns_the_encoders_bits(tmp_path: Path, dtype: str, size: int) -> None:
    files = find_clip(ModelConfig(dtype=dtype), make_tiny_clip(tmp_path / "clip"))
    encoder = ImageEncoder(files, "cpu")
    source = FolderSource(make_folder(tmp_path / "images", {"beach": 5}))
    expected = encoder.encode([encoder.prepare(source.image(i)) for i in range(5)])
    cache = FeatureCache.of_images(tmp_path / "cache", files, AS_THEY_ARE)

    def not_loaded() -> Encoding:
        raise AssertionError("no feature is missing")

    for load in (lambda: pooled(encoder), not_loaded):
        features, _ = cache.features(
            source, range(5), load, batch_size=5, max_unreadable=0, on_event=print
        )
        assert features.dtype == np.float32
        assert features.tobytes() == expected.tobytes()
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    with closing(sqlite3.connect(file)) as connection:
        lengths = connection.execute("SELECT DISTINCT length(vector) FROM features").fetchall()
    assert lengths == [(size * files.dim,)]


def test_what_would_be_rounded_is_refused() -> None:
    assert bits_of(np.array([1.0, -2.0], np.float32)).tolist() == [0x3F80, 0xC000]
    with pytest.raises(ValueError, match="would be rounded"):
        bits_of(np.array([1.0, 0.1], np.float32))
