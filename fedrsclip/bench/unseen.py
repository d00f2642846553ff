"""What a shared prompt does for clients that took no part in it.

A fifth of the clients is left out of a run. They then start from its shared prompt, which stays
as it is, and train what is private for a few epochs.
"""

from collections.abc import Sequence

import numpy as np

from fedrsclip.bench.cells import Cell, make_cell
from fedrsclip.bench.description import Description
from fedrsclip.bench.runner import Failures, Runner
from fedrsclip_core.config.schema import PromptConfig
from fedrsclip_core.errors import ConfigError

_UNSEEN = 0.2
SEEN = "seen clients"


def unseen(runner: Runner) -> Failures:
    """Run each method with the seen clients, then from its shared prompt with the others."""
    description = runner.description
    if not description.bench.epochs:
        raise ConfigError("bench.epochs is empty: say how long unseen clients train")
    cells = [
        cell
        for setting in description.bench.settings
        for seed in description.bench.seeds
        for method in description.bench.methods
        for cell in _cells(description, setting, method, seed)
    ]
    return runner.run(cells)[1]


def left_out(num_clients: int, seed: int) -> tuple[int, ...]:
    """Draw the partitions of the clients that never train: a fifth, at least one."""
    count = max(1, round(_UNSEEN * num_clients))
    drawn = np.random.default_rng([3, seed]).permutation(num_clients)[:count]
    return tuple(sorted(int(partition) for partition in drawn))


def _cells(description: Description, setting: str, method: str, seed: int) -> list[Cell]:
    plain = make_cell(description, setting, method, seed)
    count, prompt = plain.config.federation.num_clients, plain.config.prompt
    if count < 2:
        raise ConfigError(f"the setting {setting} has one client: none can be left out")
    others = left_out(count, seed)
    seen = make_cell(
        description,
        setting,
        method,
        seed,
        variant=SEEN,
        partitions=[k for k in range(count) if k not in others],
    )
    start = seen.name if prompt.has_shared else ""
    later = [
        make_cell(
            description,
            setting,
            method,
            seed,
            variant=f"{epochs} epochs",
            extra=_overrides(prompt, start, epochs),
            partitions=others,
            after=start,
        )
        for epochs in description.bench.epochs
        if epochs == 0 or prompt.has_private or prompt.finetune_epochs
    ]
    return [seen, *later]


def _overrides(prompt: PromptConfig, start: str, epochs: int) -> Sequence[str]:
    """Train what is private for some epochs, and nothing else."""
    given = [f"run.shared_init_from={start}"] if start else []
    if prompt.has_private:
        frozen = ["optimizer.lr=0", "optimizer.offsets_lr=null"] if prompt.has_shared else []
        return [*given, *frozen, f"federation.num_rounds={epochs}", "optimizer.local_epochs=1"]
    given.append("federation.num_rounds=0")
    return [*given, f"prompt.finetune_epochs={epochs}"] if prompt.finetune_epochs else given
