"""Small georeferenced scenes, and a classifier that knows colours by heart."""

from pathlib import Path
from typing import Any

import numpy as np

from fedrsclip.classifier.scene_classifier import Origin, SceneClassifier
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading

COLOURS = ("red", "green", "blue")
UTM = "EPSG:32632"
LEFT, TOP = 500_000, 5_500_000


class _Side:
    side, device = 16, "cpu"


class Colours(SceneClassifier):
    """The mean red, green and blue of a window are its probabilities, in their share.

    It counts the windows that it has seen, and may stop after some.
    """

    def __init__(self, reading: Reading = AS_THEY_ARE, stop_after: int | None = None) -> None:
        super().__init__(COLOURS, None, 1.0, _Side(), reading, Origin("colours"))  # type: ignore[arg-type]
        self.seen: list[np.ndarray] = []
        self._stop_after = stop_after

    def prepare(self, image: Any) -> Any:
        assert image.shape == (image.shape[0], image.shape[0], 3)
        assert image.dtype == np.uint8
        return image

    def probabilities(self, prepared: Any) -> np.ndarray:
        if self._stop_after is not None and len(self.seen) >= self._stop_after:
            raise KeyboardInterrupt
        self.seen.extend(prepared)
        means = np.array([image.reshape(-1, 3).mean(axis=0) + 1e-3 for image in prepared])
        return (means / means.sum(axis=1, keepdims=True)).astype(np.float32)


def patchwork(classes: np.ndarray, size: int = 16) -> np.ndarray:
    """Return red, green and blue squares ``(rows * size, cols * size, 3)``."""
    pixels = np.zeros((*classes.shape, 3), np.uint8)
    for number in range(3):
        pixels[classes == number, number] = 200
    return pixels.repeat(size, axis=0).repeat(size, axis=1)


def write_scene(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write ``(H, W, bands)`` by GDAL, as 1 m pixels in UTM if nothing else is said."""
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.transform import from_origin

    later = {name: options.pop(name) for name in ("mask",) if name in options}
    height, width, count = pixels.shape
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": count,
        "dtype": pixels.dtype,
        "crs": UTM,
        "transform": from_origin(LEFT, TOP, 1, 1),
    }
    with (
        rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **{**profile, **options}) as file,
    ):
        file.write(np.moveaxis(pixels, -1, 0))
        if options.get("driver") in ("COG", "JP2OpenJPEG"):
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        if "mask" in later:
            file.write_mask(later["mask"])
    return path


def numbers_of(path: Path) -> np.ndarray:
    """Return a raster's bands ``(bands, rows, cols)``."""
    import rasterio

    with rasterio.open(path) as file:
        found: np.ndarray = file.read()
    return found
