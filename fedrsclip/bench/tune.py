"""Choose hyperparameters on validation images, with the same number of trials for each method.

The best trial of a method under an experiment is recorded in the user's own table, or in the one
that ``bench.tuned`` names; later runs of both use it. Its seeds should be none that are reported.
"""

import statistics
from collections.abc import Sequence

from fedrsclip.bench.cells import Cell, make_cell, merged
from fedrsclip.bench.description import BenchConfig, Description
from fedrsclip.bench.figures import Row
from fedrsclip.bench.runner import Failures, Runner
from fedrsclip.bench.tables import Layout
from fedrsclip.run.own_tuning import as_overrides, write_table
from fedrsclip.run.own_tuning import merged as merged_tables
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.overrides import key_of
from fedrsclip_core.config.tuned import Table, read_table
from fedrsclip_core.errors import ConfigError

LAYOUT = Layout(
    "validation images, mean over the last five rounds",
    main={"global": "last5_val_global", "personalized": "last5_val_personalized"},
    more={},
    compared=(),
)


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
    """Return the cells of a method, without settings for which there is a choice already."""
    description, bench = runner.description, runner.description.bench
    known, own = _table(description), read_table(description.tuned_file)
    cells = []
    for setting in bench.settings:
        experiment = _experiment(bench, setting)
        if method in known.get(experiment, {}) and not bench.again:
            where = description.tuned_file if method in own.get(experiment, {}) else "what ships"
            runner.echo(
                f"{experiment} {method} has a choice in {where}: bench.again=true tunes it again"
            )
            continue
        for number in range(len(bench.trials[method])):
            # Not on top of an earlier choice, which may set more than this trial does.
            trial = ["tuned=null", *_overrides(description, setting, method, number)]
            cells += [
                make_cell(
                    description,
                    setting,
                    method,
                    seed,
                    variant=f"trial {number}",
                    extra=trial,
                )
                for seed in bench.seeds
            ]
    return cells


def _overrides(description: Description, setting: str, method: str, number: int) -> tuple[str, ...]:
    bench = description.bench
    base = bench.based_on.get(method, "")
    values = _table(description).get(_experiment(bench, setting), {}).get(base, {})
    return merged(as_overrides(values), bench.trials[method][number])


def _record(
    runner: Runner, setting: str, method: str, cells: Sequence[Cell], rows: Sequence[Row]
) -> None:
    """Write the trial with the best mean; among equals the first."""
    description, bench = runner.description, runner.description.bench
    mine = [c for c in cells if (c.setting, c.method) == (setting, method)]
    prompt = mine[0].config.prompt
    personal = prompt.has_private or prompt.class_prior or prompt.finetune_epochs > 0
    figure = "last5_val_personalized" if personal else "last5_val_global"
    scores = []
    for number in range(len(bench.trials[method])):
        trial = (setting, method, f"trial {number}")
        found = [r for r in rows if (r["setting"], r["method"], r["variant"]) == trial]
        scores.append(statistics.fmean(row[figure] for row in found))
    best = scores.index(max(scores))
    for number, score in enumerate(scores):
        runner.echo(f"{setting} {method} {' '.join(bench.trials[method][number])}: {score:.1f}")
    config = next(cell.config for cell in mine if cell.variant == f"trial {best}")
    keys = map(key_of, _overrides(description, setting, method, best))
    values = {key: configuration.get_value(config, key) for key in keys}
    file, experiment = description.tuned_file, _experiment(bench, setting)
    write_table(file, merged_tables(read_table(file), {experiment: {method: values}}))
    runner.echo(f"recorded trial {best} of {experiment} {method} in {file}")
    for sentence in at_the_edge(bench.trials[method], best):
        runner.echo(f"{experiment} {method}: {sentence}")


def at_the_edge(trials: Sequence[Sequence[str]], best: int) -> list[str]:
    """Say which numbers of a trial are the smallest or largest tried: a better one may be beyond.

    The one to add continues the steps of those that there are. Zero is an end and no edge.

    Parameters
    ----------
    trials : Sequence[Sequence[str]]
        The overrides of each trial.
    best : int
        Which of them was chosen.
    """
    tried: dict[str, set[float]] = {}
    for text in (text for trial in trials for text in trial):
        if (number := _number(text)) is not None:
            tried.setdefault(key_of(text), set()).add(number)
    found = []
    for text in trials[best]:
        number, values = _number(text), sorted(tried.get(key_of(text), ()))
        if number is None or len(values) < 2 or number not in (values[0], values[-1]):
            continue
        neighbour = values[1] if number == values[0] else values[-2]
        if number > 0:
            beyond = (
                f"add {number * number / neighbour:.2g}" if neighbour > 0 else "add larger ones"
            )
            found.append(f"{text} is the edge of its trials: {beyond}")
    return found


def _number(text: str) -> float | None:
    try:
        return float(text.partition("=")[2])
    except ValueError:
        return None


def _table(description: Description) -> Table:
    """Return what counts: the user's own table over what ships."""
    return merged_tables(
        read_table(configuration.recorded_file()), read_table(description.tuned_file)
    )


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
