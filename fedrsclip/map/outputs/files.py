"""All files of a map."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrsclip.map.folder import SUMMARY
from fedrsclip.map.outputs.areas import Area, table
from fedrsclip.map.outputs.qgis import style
from fedrsclip.map.outputs.quicklook import quicklook
from fedrsclip.map.outputs.rasters import write_classes, write_probabilities
from fedrsclip.map.outputs.regions import write_regions
from fedrsclip.map.page import render
from fedrsclip_core.runs.fileio import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from fedrsclip.map.mapping import Job, Mapped


def write_all(made: Path, job: "Job", mapped: "Mapped") -> None:
    """Write a map's files into an empty folder."""
    result, ground = mapped.result, job.scene.ground
    write_classes(made / "classes.tif", result, ground.crs)
    write_probabilities(made / "probability.tif", result, ground.crs, mapped.all_classes)
    regions = write_regions(made / "regions.geojson", result, mapped.cells_km2, job.grid, ground)
    others = {"no data": mapped.no_data, "unreadable": mapped.unreadable}
    write_text(made / "areas.csv", table(result.class_names, mapped.areas, others))
    write_text(made / "classes.qml", style(result.class_names, result.colours))
    write_bytes(made / "quicklook.png", quicklook(result))
    write_text(made / "map.html", render(result))
    write_json(made / SUMMARY, _summary(job, mapped, regions))


def _summary(job: "Job", mapped: "Mapped", regions: int) -> dict[str, Any]:
    result, progress = mapped.result, mapped.progress
    return {
        "key": job.key,
        "scene": result.title,
        "classifier": result.classifier,
        "settings": dict(result.settings),
        "crs": result.crs,
        "transform": result.transform,
        "cells": list(result.classes.shape),
        "classes": [
            {"name": name, "colour": colour, **_area(area)}
            for name, colour, area in zip(
                result.class_names, result.colours, mapped.areas, strict=True
            )
        ],
        "no_data": _area(mapped.no_data),
        "unreadable": _area(mapped.unreadable),
        "regions": regions,
        "windows": progress.counts,
        "damaged_windows": progress.damaged,
        "unshown": progress.unshown,
    }


def _area(area: Area) -> dict[str, float]:
    return {"cells": area.cells, "km2": area.km2}
