"""From a baseline to its row beside the methods; computed once for the same images and budget."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip.bench.baselines.federation import Array, Classifiers, Federation, Outcome
from fedrsclip.bench.baselines.names import baseline
from fedrsclip.bench.cells import Cell
from fedrsclip.bench.description import Description
from fedrsclip.bench.figures import PARTS, Row, accuracy_figures, last_figures, tally_figures
from fedrsclip.bench.images import clients_features
from fedrsclip.run import preflight
from fedrsclip_core.clip.earlier import same_clip
from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.weights import read_tensors
from fedrsclip_core.config.schema import Config
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.learning.diagnostics import Tally, tally
from fedrsclip_core.runs import fileio
from fedrsclip_core.runs.records import Accuracies, Results, Spread

_OPTIMIZER = ("name", "momentum", "weight_decay", "schedule", "batch_size", "local_epochs")
_FEDERATION = ("num_clients", "num_rounds")


def baseline_rows(description: Description, cell: Cell, results: Results) -> list[Row]:
    """Return the rows of all baselines on the images of a completed cell.

    Raises
    ------
    ConfigError
        If the images or the CLIP are others than the cell's.
    """
    here = preflight.compose_here(cell.at_site(description.site), given=())
    files = preflight.check_model(here)
    digests = {name: results["digests"][name] or "" for name in ("split", "clip")}
    if _split_digest(here) != digests["split"] or not same_clip(files, digests["clip"]):
        raise ConfigError(f"{cell.folder} was run with other images or another CLIP: give the same")
    of = digests | _what_counts(here)
    federation = cache(lambda: _federation(here, files))
    rows = []
    for name in description.bench.baselines:
        kept = description.folder / "baselines" / f"{cell.setting}-{name}-seed{cell.seed}.json"
        figures = _known(kept, of)
        if figures is None:
            figures = measured(federation(), baseline(name)(federation()))
            fileio.write_json(kept, {"of": of, "figures": figures})
        identity = {"setting": cell.setting, "method": name, "variant": "", "seed": cell.seed}
        rows.append(identity | figures | {"split_digest": digests["split"]})
    return rows


def measured(federation: Federation, outcome: Outcome) -> Row:
    """Return a baseline's figures, by the names that those of runs have."""
    rounds: list[dict[str, Accuracies]] = [
        {part: _accuracies(federation, found, part) for part in PARTS} for found in outcome.rounds
    ]
    row: Row = {"round": outcome.round}
    for part in PARTS:
        row |= {f"{part}_{k}": v for k, v in accuracy_figures(rounds[-1][part]).items()}
    row |= last_figures(rounds, rounds)
    row |= tally_figures(_tallies(federation, outcome.rounds[-1]))
    if not outcome.confident:
        row |= {key: None for key in row if key.endswith("_ece")}
    return row | {
        "bytes_per_round": outcome.bytes_per_round,
        "clients": len(federation.clients),
        "chosen": outcome.chosen,
    }


def _what_counts(config: Config) -> dict[str, Any]:
    """Return what a baseline depends on besides images and CLIP, as JSON has it."""
    found = {f"partition.{key}": value for key, value in asdict(config.partition).items()}
    found |= {f"optimizer.{key}": getattr(config.optimizer, key) for key in _OPTIMIZER}
    found |= {f"federation.{key}": getattr(config.federation, key) for key in _FEDERATION}
    return dict(json.loads(json.dumps(found | {"seed": config.seed})))


def _known(kept: Path, of: dict[str, Any]) -> Row | None:
    if not kept.is_file():
        return None
    found = json.loads(kept.read_text(encoding="utf-8"))
    return dict(found["figures"]) if found["of"] == of else None


def _split_digest(here: Config) -> str:
    path = Path(here.data.path) if here.data.path else None
    count = here.federation.num_clients
    return open_client_data(here, path, partition_id=0, num_partitions=count).split_digest


def _federation(here: Config, files: ClipFiles) -> Federation:
    clients = list(clients_features(here, files, parts=("train", "val", "test")))
    classes = len(here.data.class_names) or 1 + max(
        int(data.labels.max(initial=0)) for client in clients for data in client.values()
    )
    logit_scale = read_tensors(files.folder, ["logit_scale"])["logit_scale"]
    return Federation(clients, classes, float(logit_scale.double().exp()), here)


def _accuracies(federation: Federation, found: Classifiers, part: str) -> Accuracies:
    labels = [client[part].labels for client in federation.clients]
    shared = None
    if found.shared is not None and any(len(one) for one in labels):
        pooled = federation.pooled(part)
        shared = float(_right(found.shared(pooled.features), pooled.labels).mean())
    scores = _personalized(federation, found, part)
    own = [_own(one, counts) for one, counts in zip(scores, federation.counts(), strict=True)]
    return {
        "images": sum(len(one) for one in labels),
        "zero_shot": None,
        "global": shared,
        "personalized": _spread(scores, labels),
        "personalized_own": _spread(own, labels),
    }


def _personalized(federation: Federation, found: Classifiers, part: str) -> list[Array]:
    clients = zip(found.personalized, federation.clients, strict=True)
    return [classifier(client[part].features) for classifier, client in clients]


def _own(scores: Array, counts: Array) -> Array:
    """Leave out classes of which the client has no training image."""
    return np.where(counts > 0, scores, -np.inf)


def _right(scores: Array, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = scores.argmax(axis=1) == labels
    return found


def _spread(scores: Sequence[Array], labels: Sequence[NDArray[np.int64]]) -> Spread | None:
    """Return accuracies over the clients that have images."""
    right = [_right(s, y) for s, y in zip(scores, labels, strict=True) if len(y)]
    if not right:
        return None
    each = [float(one.mean()) for one in right]
    return {
        "mean": float(np.mean(each)),
        "std": float(np.std(each)),
        "worst": min(each),
        "best": max(each),
        "pooled": float(np.concatenate(right).mean()),
        "clients": len(each),
    }


def _tallies(federation: Federation, found: Classifiers) -> dict[str, Tally]:
    """Tally the test images of all clients by mode."""
    pooled = federation.pooled("test")
    labels = [client["test"].labels for client in federation.clients]
    scores = _personalized(federation, found, "test")
    own = [_own(one, counts) for one, counts in zip(scores, federation.counts(), strict=True)]
    modes = {
        "personalized": (np.concatenate(scores), np.concatenate(labels)),
        "own": (np.concatenate(own), np.concatenate(labels)),
    }
    if found.shared is not None:
        modes["global"] = (found.shared(pooled.features), pooled.labels)
    return {mode: tally(logits, truth, 1.0) for mode, (logits, truth) in modes.items()}
