"""Where a scene's pixels are on earth, and how large they are there."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.map.grid import Grid
from fedrsclip_core.errors import DataError

if TYPE_CHECKING:
    from affine import Affine

_NODES = 65
"""Cells in each direction of which areas are computed; between them they are interpolated."""
_KM2 = 1e6


class Ground:
    """Where pixels are.

    Parameters
    ----------
    crs : rasterio.crs.CRS
        The scene's coordinate reference system.
    transform : Affine
        From columns and rows of pixels to its coordinates.

    Raises
    ------
    DataError
        If it has no ellipsoid, or the scene lies beyond it.
    """

    def __init__(self, crs: Any, transform: "Affine") -> None:
        from pyproj import CRS, Transformer

        self.crs, self.transform = crs, transform
        system = CRS.from_wkt(crs.to_wkt())
        geodetic, geod = system.geodetic_crs, system.get_geod()
        if geodetic is None or geod is None:
            raise DataError(
                f"has the coordinate reference system {system.name!r}, which is nowhere on earth: "
                "give it its own by `rio edit-info --crs`"
            )
        self._geod = geod
        self._to_geodetic = Transformer.from_crs(system, geodetic, always_xy=True)
        self._to_wgs84 = Transformer.from_crs(system, "EPSG:4326", always_xy=True)

    @property
    def crs_name(self) -> str:
        """``EPSG:32632`` or the like; WKT where no authority names it."""
        authority = self.crs.to_authority()
        return ":".join(authority) if authority else str(self.crs.to_wkt())

    def coordinates(
        self, columns: NDArray[np.floating], rows: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return x and y in the scene's own system of places in pixels."""
        t = self.transform
        return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f

    def wgs84(
        self, columns: NDArray[np.floating], rows: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return longitudes and latitudes of places in pixels, as GeoJSON has them."""
        longitude, latitude = self._to_wgs84.transform(*self.coordinates(columns, rows))
        return np.asarray(longitude), np.asarray(latitude)

    def pixel_metres(self, height: int, width: int) -> float:
        """Return the side of a square as large as the pixel in the scene's middle, in metres.

        Raises
        ------
        DataError
            If that is nowhere on earth.
        """
        side = float(np.sqrt(self._area(width / 2, height / 2, 1)))
        if not 0 < side < np.inf:
            raise DataError(
                "has coordinates that are nowhere on earth in its coordinate reference system: "
                "give it its own by `rio edit-info --crs EPSG:<number>`"
            )
        return side

    def metres_across(self, height: int, width: int) -> float:
        """Return the length of the scene's middle row on the ground; not finite off the earth."""
        columns = np.linspace(0, width, _NODES)
        rows = np.full(_NODES, height / 2)
        places = self._to_geodetic.transform(*self.coordinates(columns, rows))
        return float(self._geod.line_length(*places))

    def cell_areas(self, grid: Grid) -> NDArray[np.float32]:
        """Return the km2 of each cell ``(rows, cols)``, in as far as it has pixels.

        They are geodesic: exact up to 65 cells a side, and else interpolated between as many, by
        which a map of the whole earth is wrong by less than 0.05 %.
        """
        rows = np.unique(np.linspace(0, grid.rows - 1, _NODES).round().astype(int))
        cols = np.unique(np.linspace(0, grid.cols - 1, _NODES).round().astype(int))
        # The last of them may reach beyond the scene, where there need be no earth.
        tops, lefts = (
            np.minimum(cells * grid.step, length - grid.step)
            for cells, length in ((rows, grid.height), (cols, grid.width))
        )
        nodes = np.array([[self._area(x, y, grid.step) for x in lefts] for y in tops])
        wide = np.stack([np.interp(np.arange(grid.cols), cols, node) for node in nodes])
        areas = np.stack(
            [np.interp(np.arange(grid.rows), rows, column) for column in wide.T], axis=1
        )
        areas[-1] *= (grid.height - (grid.rows - 1) * grid.step) / grid.step
        areas[:, -1] *= (grid.width - (grid.cols - 1) * grid.step) / grid.step
        return np.asarray(areas / _KM2, np.float32)

    def _area(self, column: float, row: float, side: float) -> float:
        """Return the m2 of a square of pixels."""
        columns = column + side * np.array([0.0, 1.0, 1.0, 0.0])
        rows = row + side * np.array([0.0, 0.0, 1.0, 1.0])
        corners = self._to_geodetic.transform(*self.coordinates(columns, rows))
        area, _ = self._geod.polygon_area_perimeter(*corners)
        return abs(area)


def check_placed(source: Any) -> None:
    """Raise DataError if an open file does not say where on earth its pixels are."""
    if source.gcps[0]:
        raise DataError(
            "is placed by ground control points alone: `gdalwarp scene.tif placed.tif` places its "
            "pixels"
        )
    if source.crs is None:
        raise DataError(
            "says no coordinate reference system, without which it has no place on a map (what "
            "lies beside it, as .aux.xml or .prj, is not read): give it its own by `rio edit-info "
            "--crs EPSG:<number>`"
        )
    if source.transform.is_identity or source.transform.is_degenerate:
        raise DataError(
            "says no place and size of its pixels: give it both by `gdal_translate -a_ullr <left> "
            "<top> <right> <bottom>`"
        )
