"""What is settled before the first cell starts: images, CLIP, environment, order."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedrsclip import machine
from fedrsclip.bench.cells import Cell, merged
from fedrsclip.bench.description import Description
from fedrsclip.bench.schedule import Job
from fedrsclip.run import preflight
from fedrsclip_core.clip.earlier import same_clip
from fedrsclip_core.config.overrides import quote
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import ConfigError


@dataclass(frozen=True)
class Prepared:
    """How the cells that are missing will be run.

    Attributes
    ----------
    jobs : list[Job]
        In order.
    site : dict[str, str]
        The environment by which they learn this site's keys.
    on_gpus : bool
        Whether they compute on GPUs.
    configurations : list[str]
        The resolved configuration of a cell of each setting.
    notes : list[str]
        What to know before they start.
    """

    jobs: list[Job]
    site: dict[str, str]
    on_gpus: bool
    configurations: list[str]
    notes: list[str]


def with_classes(description: Description, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with the class names that only the images tell, as `fedrsclip run` does.

    Raises
    ------
    FedRSCLIPError
        If there are no images to read them from.
    """
    known: dict[str, list[str]] = {}
    filled = []
    for cell in cells:
        if cell.setting not in known:
            known[cell.setting] = _missing_classes(description, cell)
        filled.append(replace(cell, overrides=merged(cell.overrides, known[cell.setting])))
    return filled


def prepare(
    description: Description, missing: Sequence[Cell], done: Mapping[Cell, Mapping[str, Any]]
) -> Prepared:
    """Check each setting's data and model.

    Parameters
    ----------
    description : Description
        The benchmark.
    missing : Sequence[Cell]
        The cells to run.
    done : Mapping[Cell, Mapping[str, Any]]
        The others with their results.

    Raises
    ------
    FedRSCLIPError
        If a cell could not run, or others were run with another CLIP.
    """
    configurations, notes = [], dict[str, None]()
    for setting in dict.fromkeys(cell.setting for cell in missing):
        first = next(cell for cell in missing if cell.setting == setting)
        here = preflight.compose_here(first.at_site(description.site), given=())
        preflight.check_for_simulation(here)
        configurations.append(to_json(here))
        if slow := machine.slow_bfloat16(here):
            notes[slow] = None
        _check_clip(here, {c: results for c, results in done.items() if c.setting == setting})
    jobs = [Job(cell, _images(cell)) for cell in missing]
    # Who encodes for all must have all images.
    jobs.sort(key=lambda job: -(job.cell.config.data.shots or math.inf))
    # A simulation without federation.client_gpus computes on the CPU, too.
    device = here.federation.device = here.federation.device or "cpu"
    return Prepared(
        jobs,
        preflight.site_environment(here),
        device.startswith("cuda"),
        configurations,
        list(notes),
    )


def _missing_classes(description: Description, cell: Cell) -> list[str]:
    data = cell.config.data
    if data.class_names or data.name == "demo_scenes":
        return []
    here = preflight.compose_here(cell.at_site(description.site), given=())
    listed = ",".join(map(quote, preflight.check_data(here)[0]))
    return [f"data.class_names=[{listed}]"]


def _images(cell: Cell) -> Hashable:
    """Name the images and the encoder of a cell."""
    config = cell.config
    # The scenes of the demo are others for each seed.
    seed = config.seed if config.data.name == "demo_scenes" else None
    return json.dumps([asdict(replace(config.data, shots=None)), asdict(config.model), seed])


def _check_clip(here: Config, done: Mapping[Cell, Mapping[str, Any]]) -> None:
    files = preflight.check_model(here)
    for cell, results in done.items():
        if not same_clip(files, results["digests"]["clip"] or ""):
            raise ConfigError(
                f"{cell.folder} was run with another CLIP than the one that is given now: give "
                "the same, or another bench.name"
            )
