"""From base classes to new ones: train on half of the classes, ask about the others.

Base are the first half of the sorted class names. What is measured are held-out images: those of
base classes over base names, by the run itself, and those of new classes over new names, here.
"""

import json
from collections.abc import Mapping, Sequence

from fedrsclip.bench.cells import Cell, make_cell
from fedrsclip.bench.description import Description
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures, Runner
from fedrsclip.bench.tables import Layout
from fedrsclip.run import preflight
from fedrsclip_core.clip.earlier import same_clip
from fedrsclip_core.config.overrides import quote
from fedrsclip_core.config.schema import IGNORE, Config
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.records import Results
from fedrsclip_core.runs.run_folder import RunFolder

LAYOUT = Layout(
    "test images of base classes over base names, of new ones over new names",
    main={
        "zero-shot base": "test_zero_shot",
        "zero-shot new": "new_zero_shot",
        "zero-shot harmonic": "harmonic_zero_shot",
        "global base": "test_global",
        "global new": "new_global",
        "global harmonic": "harmonic_global",
    },
    more={},
    compared=("global base", "global new", "global harmonic"),
)


def base_to_new(runner: Runner) -> Failures:
    """Run each cell on base classes and measure its shared prompt on new ones."""
    description = runner.description
    halves = {name: _halves(description, name) for name in description.bench.settings}
    cells = [
        _cell(description, setting, method, seed, halves[setting])
        for setting in description.bench.settings
        for seed in description.bench.seeds
        for method in description.bench.methods
    ]

    def extras(cell: Cell, results: Results) -> Row:
        digest = results["digests"]["clip"] or ""
        figures = _measured(description, cell, halves[cell.setting][1], digest)
        return with_harmonic(figures, results)

    return runner.run(cells, LAYOUT, extras)[1]


def split_classes(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return base and new classes; of an odd number base has one more."""
    ordered = sorted(names)
    middle = (len(ordered) + 1) // 2
    return ordered[:middle], ordered[middle:]


def with_harmonic(new: Mapping[str, float | None], results: Results) -> Row:
    """Return new figures as percentages, with their harmonic means with the base's."""
    test = results["last"]["test"] if results["last"] else None
    base = {
        "zero_shot": results["zero_shot"]["test"],
        "global": test["global"] if test else None,
    }
    row: Row = {}
    for mode, known in base.items():
        found = new.get(mode)
        row[f"new_{mode}"] = None if found is None else 100 * found
        row[f"harmonic_{mode}"] = None
        if known is not None and found is not None:
            both = known + found
            row[f"harmonic_{mode}"] = 200 * known * found / both if both else both
    return row


def _halves(description: Description, setting: str) -> tuple[list[str], list[str]]:
    bench = description.bench
    config = make_cell(description, setting, bench.methods[0], bench.seeds[0]).config
    base, new = split_classes(config.data.class_names or _known_classes(config))
    if len(new) < 2:
        raise ConfigError(f"the setting {setting} has too few classes to leave some out")
    return base, new


def _known_classes(config: Config) -> Sequence[str]:
    if config.data.name != "demo_scenes":
        raise ConfigError("base_to_new needs data.class_names: give the data's classes")
    from fedrsclip_core.demo.scenes import CLASS_NAMES

    return CLASS_NAMES


def _cell(
    description: Description,
    setting: str,
    method: str,
    seed: int,
    halves: tuple[list[str], list[str]],
) -> Cell:
    own = [f"data.class_names=[{','.join(map(quote, halves[0]))}]"]
    cell = make_cell(description, setting, method, seed, extra=own)
    if cell.config.data.name == "demo_scenes":
        return cell
    if cell.config.data.name != "folder":
        raise ConfigError("base_to_new reads image folders and the embedded scenes only")
    own.append(f"data.other_classes={IGNORE}")
    return make_cell(description, setting, method, seed, extra=own)


def _measured(
    description: Description, cell: Cell, new: list[str], clip: str
) -> dict[str, float | None]:
    """Measure a cell's shared prompt on new classes, once."""
    from fedrsclip.bench.new_classes import new_accuracies

    kept = description.folder / "new" / f"{cell.name}.json"
    prompt = RunFolder(cell.folder).shared_prompt
    key = fileio.sha256_of_file(prompt) if prompt.is_file() else ""
    if kept.is_file():
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["prompt"] == key and known["classes"] == new:
            return dict(known["accuracy"])
    here = preflight.compose_here(cell.at_site(description.site), given=())
    if not same_clip(preflight.check_model(here), clip):
        raise ConfigError(f"{cell.folder} was run with another CLIP: give the same again")
    here.seed, here.data.class_names = cell.seed, [*cell.config.data.class_names, *new]
    accuracy = new_accuracies(here, new, prompt if key else None)
    fileio.write_json(kept, {"prompt": key, "classes": new, "accuracy": accuracy})
    return accuracy
