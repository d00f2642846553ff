"""Areas are those on the ellipsoid, whatever the scene's coordinates are."""

import numpy as np
import pytest
from affine import Affine

from fedrsclip.map.grid import Grid
from fedrsclip.map.ground import Ground

pytestmark = pytest.mark.unit
AUTHALIC = 6371007.1809
"""Radius of the sphere with the surface of WGS84's ellipsoid, in metres."""


def ground(crs: str, transform: Affine) -> Ground:
    from rasterio.crs import CRS

    return Ground(CRS.from_string(crs), transform)


def test_the_whole_earth_has_its_surface() -> None:
    grid = Grid(720, 1440, 2, 2)
    areas = ground("EPSG:4326", Affine(0.25, 0, -180, 0, -0.25, 90)).cell_areas(grid)
    assert areas.shape == (360, 720)
    whole = 4 * np.pi * AUTHALIC**2 / 1e6
    assert areas.sum(dtype=np.float64) == pytest.approx(whole, rel=5e-4)
    assert np.allclose(areas[:, 0], areas[:, -1])
    assert areas[0, 0] < areas[180, 0] / 100


@pytest.mark.parametrize("latitude", [0, 45, 70])
def test_a_degree_has_its_area(latitude: int) -> None:
    """Rows of a degree on the ellipsoid, by the closed form of a zone's area."""
    e2 = 0.0066943799901413165
    e, a = np.sqrt(e2), 6378137.0

    def zone(phi: float) -> float:
        s = np.sin(np.radians(phi))
        return float(s / (1 - e2 * s * s) + np.arctanh(e * s) / e)

    expected = a * a * (1 - e2) / 2 * (zone(latitude + 1) - zone(latitude)) * np.radians(1) / 1e6
    grid = Grid(60, 60, 1, 1)
    transform = Affine(1 / 60, 0, 10, 0, -1 / 60, latitude + 1)
    areas = ground("EPSG:4326", transform).cell_areas(grid)
    assert areas.sum(dtype=np.float64) == pytest.approx(expected, rel=1e-6)


def test_projections_that_stretch_do_not_count_double() -> None:
    """Web Mercator shows each metre at 60 degrees as two; UTM is right but for its scale."""
    grid = Grid(100, 100, 10, 10)
    y = 8_399_737.889818361  # of 60 degrees north
    mercator = ground("EPSG:3857", Affine(10, 0, 1e6, 0, -10, y + 500)).cell_areas(grid)
    assert mercator.sum() == pytest.approx(0.25, rel=0.01)
    utm = ground("EPSG:32632", Affine(10, 0, 499_500, 0, -10, 5_500_500))
    assert utm.cell_areas(grid).sum() == pytest.approx(1 / 0.9996**2, rel=1e-5)
    assert utm.pixel_metres(100, 100) == pytest.approx(10 / 0.9996, rel=1e-5)


def test_feet_are_feet_and_turned_scenes_lose_nothing() -> None:
    grid = Grid(40, 40, 10, 10)
    turned = Affine.translation(500_000, 5_500_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    areas = ground("EPSG:32632", turned).cell_areas(grid)
    assert areas.sum() == pytest.approx(0.16 / 0.9996**2, rel=1e-5)
    feet = ground("EPSG:2263", Affine(100, 0, 980_000, 0, -100, 200_000)).cell_areas(grid)
    assert feet.sum() == pytest.approx((4000 * 0.3048) ** 2 / 1e6, rel=2e-4)


def test_cells_beyond_the_scene_count_by_their_pixels() -> None:
    place = ground("EPSG:32632", Affine(10, 0, 500_000, 0, -10, 5_500_000))
    areas = place.cell_areas(Grid(25, 33, 10, 10))
    assert areas.shape == (3, 4)
    assert areas[2, 0] / areas[0, 0] == pytest.approx(0.5, rel=1e-4)
    assert areas[0, 3] / areas[0, 0] == pytest.approx(0.3, rel=1e-4)
    assert areas.sum() == pytest.approx(0.25 * 0.33 / 0.9996**2, rel=1e-4)


def test_a_scene_is_as_wide_as_its_middle_row_on_the_ground() -> None:
    utm = ground("EPSG:32632", Affine(10, 0, 499_500, 0, -10, 5_500_500))
    assert utm.metres_across(100, 100) == pytest.approx(1000 / 0.9996, rel=1e-5)
    # A degree at 60 degrees north, of the parallel and not of the shortest way.
    degrees = ground("EPSG:4326", Affine(1, 0, -180, 0, -1, 70))
    assert degrees.metres_across(20, 360) / 360 == pytest.approx(55_800, rel=1e-3)
    beyond = ground("EPSG:32632", Affine(1e6, 0, 0, 0, -1e6, 1e9))
    assert not np.isfinite(beyond.metres_across(100, 100))
