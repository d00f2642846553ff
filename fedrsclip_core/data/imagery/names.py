"""Which files are images, by their names."""

_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def looks_like_image(name: str) -> bool:
    """Whether a file with this name is taken for an image."""
    return name.lower().endswith(_SUFFIXES)
