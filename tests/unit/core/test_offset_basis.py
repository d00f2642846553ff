"""The directions of shared coefficients: the same at every site, out of public weights."""

from pathlib import Path

import numpy as np
import pytest

from fedrsclip_core.clip.offset_basis import leading_directions, offset_basis
from fedrsclip_core.errors import ConfigError
from tests.unit.core.helpers import tiny_files

pytestmark = pytest.mark.unit


def test_directions_are_orthonormal_and_lead(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "clip")
    basis = offset_basis(files, 5)
    assert basis.shape == (5, files.dim) and basis.dtype == np.float32
    np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=1e-6)
    # More directions are added behind those that are there.
    np.testing.assert_array_equal(offset_basis(files, 9)[:5], basis)
    # Each client of a simulation asks for them: a copy each would be most of a client's memory.
    assert offset_basis(tiny_files(tmp_path / "clip"), 5) is basis


def test_the_sign_is_settled() -> None:
    matrix = np.array([[0.0, -3.0], [2.0, 0.0], [0.0, 4.0]])
    expected = [[-0.6, 0, 0.8], [0, 1, 0]]
    for variant in (matrix, -matrix, matrix[:, ::-1]):
        np.testing.assert_allclose(leading_directions(variant, 2), expected, atol=1e-7)


def test_more_directions_than_there_are(tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "clip")
    with pytest.raises(ConfigError, match=r"prompt.shared_offsets asks for 900 directions"):
        offset_basis(files, 900)
