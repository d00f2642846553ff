"""The generated scenes: pure functions, apart by stream and domain, not told apart by colour."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from fedrsclip.demo.contact_sheet import contact_sheet
from fedrsclip.demo.measure import scene_set
from fedrsclip.demo.probes import colour_histograms, linear_probe
from fedrsclip_core.demo.domains import DomainShift, apply_domain, client_domain
from fedrsclip_core.demo.rng import named_generator
from fedrsclip_core.demo.scenes import (
    CLASS_NAMES,
    FEDERATION,
    PRETRAINING,
    SCENE_CLASSES,
    pretraining_scene,
    render,
)

pytestmark = pytest.mark.unit

NUMBERS = range(len(CLASS_NAMES))
DIGEST = """
import hashlib
from fedrsclip_core.demo.scenes import CLASS_NAMES, render
digest = hashlib.sha256()
for number in reversed(range(len(CLASS_NAMES))):
    digest.update(render(number, 7, seed=3, domain=1).tobytes())
print(digest.hexdigest())
"""


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("number", NUMBERS, ids=CLASS_NAMES)
def test_scene_is_a_picture_and_a_pure_function(number: int) -> None:
    first = render(number, 5, seed=1, domain=2)
    render(number, 6, seed=1, domain=2)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert first.std() > 5
    np.testing.assert_array_equal(first, render(number, 5, seed=1, domain=2))


def test_scenes_are_equal_in_another_process() -> None:
    digest = hashlib.sha256()
    for number in reversed(NUMBERS):
        digest.update(render(number, 7, seed=3, domain=1).tobytes())
    other = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, timeout=120
    )
    assert other.stdout.strip() == digest.hexdigest()


@pytest.mark.parametrize("number", NUMBERS, ids=CLASS_NAMES)
def test_every_argument_matters(number: int) -> None:
    scene = render(number, 0, seed=0, domain=None)
    others = {
        "index": render(number, 1, seed=0, domain=None),
        "seed": render(number, 0, seed=1, domain=None),
        "stream": render(number, 0, seed=0, domain=None, stream=PRETRAINING),
        "domain": render(number, 0, seed=0, domain=0),
    }
    for argument, other in others.items():
        assert difference(scene, other) > 2, argument
    assert difference(others["domain"], render(number, 0, seed=0, domain=1)) > 2


def test_streams_share_no_layout() -> None:
    assert len(CLASS_NAMES) >= 12
    for name, scene_class in SCENE_CLASSES.items():
        assert scene_class.pretraining and scene_class.federation, name
        assert not set(scene_class.pretraining) & set(scene_class.federation), name


@pytest.mark.parametrize(
    ("number", "stream", "message"),
    [
        (-1, FEDERATION, "no scene class -1"),
        (len(CLASS_NAMES), FEDERATION, "no scene class"),
        (0, "test", "no scene stream 'test'"),
    ],
)
def test_unknown_class_or_stream_is_named(number: int, stream: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render(number, 0, seed=0, domain=None, stream=stream)


def test_domain_keeps_the_scene_and_changes_how_it_looks() -> None:
    # Same geometry: brightness stays correlated although colours differ.
    plain = render(CLASS_NAMES.index("stadium"), 0, seed=0, domain=None).mean(-1)
    for domain in range(4):
        shifted = render(CLASS_NAMES.index("stadium"), 0, seed=0, domain=domain).mean(-1)
        assert np.corrcoef(plain.ravel(), shifted.ravel())[0, 1] > 0.5


def test_domain_is_drawn_from_seed_and_client() -> None:
    assert client_domain(0, 1) == client_domain(0, 1)
    assert client_domain(0, 1) != client_domain(1, 1)
    assert client_domain(0, 1) != client_domain(0, 2)


def test_strength_zero_is_no_shift() -> None:
    rgb = render(0, 0, seed=0, domain=None).astype(np.float32) / 255
    none = DomainShift.draw(named_generator("any"), 0.0)
    np.testing.assert_allclose(apply_domain(rgb, none), rgb, atol=1e-5)


def test_pretraining_scene_tells_what_it_shows() -> None:
    scene = pretraining_scene(3, 0, seed=0)
    assert scene.class_name == CLASS_NAMES[3]
    assert scene.shift is not None
    np.testing.assert_array_equal(scene.image, pretraining_scene(3, 0, seed=0).image)


def test_colour_histograms_count_every_pixel() -> None:
    images, _ = scene_set(1, seed=0, num_domains=0)
    histograms = colour_histograms(images)
    assert histograms.shape == (len(CLASS_NAMES), 88)
    np.testing.assert_allclose(histograms.sum(1), 4.0)


@pytest.mark.parametrize("num_domains", [0, 8])
def test_colour_does_not_give_the_class_away(num_domains: int) -> None:
    images, labels = scene_set(30, seed=0, num_domains=num_domains)
    assert linear_probe(colour_histograms(images), labels) < 0.40


def test_probe_reads_what_is_linearly_there() -> None:
    labels = np.repeat(np.arange(4), 25)
    features = np.eye(4)[labels] + np.random.default_rng(0).normal(0, 0.1, (100, 4))
    assert linear_probe(features, labels) > 0.95


def test_contact_sheet_has_a_row_per_class() -> None:
    sheet = contact_sheet(2, seed=0, stream=FEDERATION, shifted=True)
    assert sheet.shape == (len(CLASS_NAMES) * 66, 120 + 2 * 66, 3)
