"""Which files are images, by their names."""

_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".jp2", ".j2k", ".jpf", ".jpx"),
    *(".webp", ".bmp", ".gif", ".avif", ".vrt"),
)


def looks_like_image(name: str) -> bool:
    """Whether a file with this name is taken for an image."""
    return name.lower().endswith(_SUFFIXES)
