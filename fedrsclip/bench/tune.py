"""Choose hyperparameters on validation images, with the same number of trials for each method.

The best trial of a method under an experiment becomes ``conf/tuned/<experiment>-<method>.yaml``,
which every later run of both uses. Its seeds should be none that are reported.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from fedrsclip.bench.cells import Cell, make_cell
from fedrsclip.bench.description import BenchConfig, key_of
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures, Runner
from fedrsclip.bench.tables import Layout
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import fileio

LAYOUT = Layout(
    "validation images, last round",
    main={"global": "val_global", "personalized": "val_personalized"},
    more={},
    compared=(),
)
_HEAD = "# @package _global_\n# Chosen on validation images: fedrsclip bench bench={name}.\n"


def tune(runner: Runner) -> Failures:
    """Run all trials and record each method's best; those that build on others come last."""
    bench = runner.description.bench
    _check(bench)
    waves = [
        [method for method in bench.methods if method not in bench.based_on],
        [method for method in bench.methods if method in bench.based_on],
    ]
    cells: list[Cell] = []
    for wave in filter(None, waves):
        new = [cell for method in wave for cell in _trials(runner, method)]
        cells += new
        if not new:
            continue
        rows, failed = runner.run(cells, LAYOUT)
        if failed:
            return failed
        for setting, method in dict.fromkeys((cell.setting, cell.method) for cell in new):
            _record(runner, setting, method, cells, rows)
    return {}


def _trials(runner: Runner, method: str) -> list[Cell]:
    """Return the cells of a method, without settings in which a choice was recorded earlier."""
    bench = runner.description.bench
    cells = []
    for setting in bench.settings:
        file = _file(_experiment(bench, setting), method)
        if file.exists() and not bench.again:
            runner.echo(f"{file.name} is there: bench.again=true would tune it anew")
            continue
        for number in range(len(bench.trials[method])):
            trial = _overrides(bench, setting, method, number)
            cells += [
                make_cell(
                    runner.description,
                    setting,
                    method,
                    seed,
                    variant=f"trial {number}",
                    extra=trial,
                )
                for seed in bench.seeds
            ]
    return cells


def _overrides(bench: BenchConfig, setting: str, method: str, number: int) -> list[str]:
    base = bench.based_on.get(method)
    values = _values(_file(_experiment(bench, setting), base)) if base else {}
    for text in bench.trials[method][number]:
        values[key_of(text)] = text.partition("=")[2]
    return [f"{key}={value}" for key, value in values.items()]


def _record(
    runner: Runner, setting: str, method: str, cells: Sequence[Cell], rows: Sequence[Row]
) -> None:
    """Write the trial with the best mean; among equals the first."""
    bench = runner.description.bench
    mine = [c for c in cells if (c.setting, c.method) == (setting, method)]
    prompt = mine[0].config.prompt
    personal = prompt.private or prompt.finetune_epochs > 0
    figure = "val_personalized" if personal else "val_global"
    scores = []
    for number in range(len(bench.trials[method])):
        trial = (setting, method, f"trial {number}")
        found = [r for r in rows if (r["setting"], r["method"], r["variant"]) == trial]
        scores.append(statistics.fmean(row[figure] for row in found))
    best = scores.index(max(scores))
    chosen = _overrides(bench, setting, method, best)
    for number, score in enumerate(scores):
        runner.echo(f"{setting} {method} {' '.join(bench.trials[method][number])}: {score:.1f}")
    file = _file(_experiment(bench, setting), method)
    fileio.write_text(file, _HEAD.format(name=bench.name) + _yaml(chosen))
    runner.echo(f"recorded trial {best} in {file.name}")


def _yaml(overrides: Sequence[str]) -> str:
    groups: dict[str, list[str]] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        group, _, name = key.partition(".")
        groups.setdefault(group, []).append(f"  {name}: {value}\n")
    return "".join(f"\n{group}:\n" + "".join(lines) for group, lines in groups.items())


def _values(file: Path) -> dict[str, str]:
    """Read back what :func:`_yaml` wrote, as values by key; empty if there is nothing."""
    values: dict[str, str] = {}
    group = ""
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        name, colon, value = line.partition(":")
        if colon and line[:1].isalpha():
            group = name
        elif colon and line.startswith("  "):
            values[f"{group}.{name.strip()}"] = value.strip()
    return values


def _file(experiment: str, method: str) -> Path:
    return configuration.conf_dir() / "tuned" / f"{experiment}-{method}.yaml"


def _experiment(bench: BenchConfig, setting: str) -> str:
    texts = [text for text in bench.settings[setting] if key_of(text) == "experiment"]
    if not texts:
        raise ConfigError(f"the setting {setting} names no experiment: a choice belongs to one")
    return texts[-1].partition("=")[2]


def _check(bench: BenchConfig) -> None:
    for method in bench.methods:
        if not bench.trials.get(method):
            raise ConfigError(f"bench.trials has none for {method}")
        for trial in bench.trials[method]:
            for text in trial:
                if key_of(text).count(".") != 1:
                    raise ConfigError(f"a trial of {method} sets {text}: give group.key=value")
