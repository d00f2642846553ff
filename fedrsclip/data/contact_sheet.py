"""A picture with a row of small images per class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 64
"""Pixels of a small image's side."""

_MIN_LABEL_WIDTH = 120
_GAP = 2


def draw_sheet(rows: "Mapping[str, Sequence[Image]]") -> "Image":
    """Draw one row per class; each image is ``TILE`` x ``TILE``."""
    from PIL import Image, ImageDraw

    step = TILE + _GAP
    columns = max((len(images) for images in rows.values()), default=0)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    label = max(_MIN_LABEL_WIDTH, *(8 + int(ruler.textlength(name)) for name in rows))
    sheet = Image.new("RGB", (label + columns * step, len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows.items()):
        draw.text((4, row * step + TILE // 2 - 6), name, fill="black")
        for column, image in enumerate(images):
            sheet.paste(image, (label + column * step, row * step))
    return sheet
