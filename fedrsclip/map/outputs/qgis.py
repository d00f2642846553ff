"""A style that QGIS finds beside the raster of classes: their names and colours."""

from collections.abc import Sequence
from xml.etree import ElementTree

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def style(class_names: Sequence[str], colours: Sequence[str]) -> str:
    """Return the text of a ``.qml``."""
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for number, (name, colour) in enumerate(zip(class_names, colours, strict=True)):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(number),
            label=_writable(name),
            color=colour,
            alpha="255",
        )
    ElementTree.indent(root)
    return _DOCTYPE + ElementTree.tostring(root, encoding="unicode") + "\n"


def _writable(name: str) -> str:
    """Return a name without control signs, which XML has no way to write."""
    return "".join(sign if sign.isprintable() else " " for sign in name)
