"""One place is found also when shifted; places that merely look alike are not."""

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from fedrsclip.data.near_duplicates import near_duplicates, thumbnail

pytestmark = pytest.mark.unit


def landscape(seed: int, size: int = 400) -> np.ndarray:
    """Rough ground: noise of several scales."""
    rng = np.random.default_rng(seed)
    ground = np.zeros((size, size))
    for cells in (8, 32, 128):
        noise = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
        ground += np.asarray(noise.resize((size, size), Resampling.BICUBIC), dtype=float)
    return (ground / 3).astype(np.uint8)


def view(ground: np.ndarray, x: int, y: int) -> np.ndarray:
    return thumbnail(Image.fromarray(ground[y : y + 256, x : x + 256]).convert("RGB"))


def test_shifted_views_of_one_place_are_a_group() -> None:
    first, second = landscape(1), landscape(2)
    views = [view(first, 0, 0), view(second, 0, 0), view(first, 24, 12), view(landscape(3), 0, 0)]
    assert [group.tolist() for group in near_duplicates(np.stack(views))] == [[0, 2]]


def test_another_compression_and_brightness_do_not_hide_it() -> None:
    ground = landscape(4)[:256, :256]
    darker = Image.fromarray((ground * 0.7).astype(np.uint8))
    views = [thumbnail(Image.fromarray(ground)), thumbnail(darker)]
    assert len(near_duplicates(np.stack(views))) == 1


def test_groups_are_joined_where_they_share_an_image() -> None:
    ground = landscape(5)
    views = [view(ground, x, 0) for x in (0, 16, 32)]
    assert [group.tolist() for group in near_duplicates(np.stack(views))] == [[0, 1, 2]]


def test_plain_images_are_no_group() -> None:
    plain = [np.full((64, 64), value, dtype=np.float32) for value in (0, 0, 255)]
    assert near_duplicates(np.stack(plain)) == []
