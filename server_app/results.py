"""What is known of a run, and the summary and the shared prompt that are made of it."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SharedTensors
from fedrsclip_core.runs.records import (
    WAYS,
    ClientResult,
    ClientVolume,
    Dropped,
    Results,
    RoundRecord,
    TotalTraffic,
    Volume,
    Way,
)
from fedrsclip_core.runs.run_folder import COMPLETED, FAILED
from fedrsclip_core.runs.shared_prompt import SharedPrompt
from server_app.admission import Client
from server_app.labels import class_names, class_words
from server_app.metrics import calibrated_factor, client_accuracies
from server_app.phase import OUT_OF_STEP, Phase
from server_app.roster import Roster

_PACKAGES = ("fedrsclip", "flwr", "numpy", "torch", "transformers", "datasets", "hydra-core")


@dataclass
class RunState:
    """What is known of a run so far; enough to write its results at any moment."""

    config: Config
    run_name: str
    roster: Roster = field(default_factory=lambda: Roster(()))
    records: list[RoundRecord] = field(default_factory=list)
    shared: SharedTensors = field(default_factory=dict)
    server_round: int = 0
    seconds: float = 0.0
    final: Phase | None = None
    own_digests: Mapping[str, str] = field(default_factory=dict)

    def digests(self) -> dict[str, str | None]:
        """Return the digests by part; ``None`` where each site has its own or nobody said."""
        values: dict[str, str | None] = dict(self.own_digests)
        for part in ("clip", "classes", "split"):
            known = {client.identity.digests[part] for client in self.roster.clients} - {""}
            values[part] = known.pop() if len(known) == 1 else None
        return values

    @property
    def calibrated_factor(self) -> float | None:
        """What the last evaluation says of CLIP's inverse temperature, if there was one."""
        return calibrated_factor(list(self.final.valid.values())) if self.final else None


def shared_prompt(state: RunState) -> SharedPrompt | None:
    """Return what is shared with what is needed to predict with it, if there is anything."""
    if not state.shared:
        return None
    config = state.config
    return SharedPrompt(
        shared=state.shared,
        class_names=tuple(class_names(config.data)),
        words=tuple(class_words(config.data)),
        model=config.model.name,
        hub_id=config.model.hub_id or "",
        revision=config.model.revision or "",
        dtype=config.model.dtype,
        clip=state.digests()["clip"] or "",
        templates=tuple(config.prompt.templates),
        run=state.run_name,
        server_round=state.server_round,
        reading=reading_of(config.data),
        calibrated_factor=state.calibrated_factor,
    )


def summary(state: RunState, *, reason: str | None) -> Results:
    """Summarise a run for ``results.json``; ``reason`` says why it failed."""
    records = state.records
    evaluated = [record for record in records if record["test"] is not None]
    # Only the final evaluation fine-tunes: other rounds do not compare with it.
    finetuned = state.config.prompt.finetune_epochs > 0
    comparable = [record for record in evaluated if record["final"] or not finetuned]
    start = next((record for record in evaluated if record["round"] == 0), None)
    val, test = (start["val"], start["test"]) if start else (None, None)
    return {
        "status": COMPLETED if reason is None else FAILED,
        "reason": reason,
        "method": state.config.method,
        "seed": state.config.seed,
        "run": state.run_name,
        "num_rounds": state.config.federation.num_rounds,
        "rounds": max((record["round"] for record in records), default=0),
        "num_clients": len(state.roster.clients),
        "zero_shot": {
            "val": val["zero_shot"] if val else None,
            "test": test["zero_shot"] if test else None,
        },
        "initial": start,
        "last": evaluated[-1] if evaluated else None,
        "val_best": val_best(comparable),
        "calibrated_factor": state.calibrated_factor,
        "clients": [_client(client, state.final) for client in state.roster.clients],
        "refused": dict(state.roster.refused),
        "dropped": _dropped(records),
        "failed_rounds": [record["round"] for record in records if record["failure"]],
        "bytes": _bytes(records),
        "seconds": state.seconds,
        "digests": state.digests(),
        "versions": _versions(),
    }


def val_best(evaluated: Sequence[RoundRecord]) -> RoundRecord | None:
    """Return the round that is best on validation images; test images have no say.

    Compared is the pooled personalized accuracy; where there is none the global one, and for
    ``zero_shot`` its only figure. Rounds that only some clients evaluated, or fewer because one
    joined later, are left out as long as there are others: they describe other images. Among
    equals the earliest round counts.
    """
    unsampled = [record for record in evaluated if not record["sampled"]]
    most = max((record["clients_evaluated"] for record in unsampled), default=0)
    whole = [r for r in unsampled if r["clients_evaluated"] == most] or evaluated
    scored = [(score, record) for record in whole if (score := _val_score(record)) is not None]
    if not scored:
        return None
    return max(scored, key=lambda item: (item[0], -item[1]["round"]))[1]


def _val_score(record: RoundRecord) -> float | None:
    val = record["val"]
    if val is None:
        return None
    personalized = val["personalized"]
    score = personalized["pooled"] if personalized else val["global"]
    if score is None:
        score = val["zero_shot"]
    return None if score is None else float(score)


def _client(client: Client, final: Phase | None) -> ClientResult:
    identity = client.identity
    reply = final.valid.get(client.name) if final else None
    return {
        "name": client.name,
        "partition_id": client.partition_id,
        "num_train": identity.num_train,
        "num_val": identity.num_val,
        "num_test": identity.num_test,
        "label_counts": list(identity.label_counts) or None,
        "last": client_accuracies(reply) if reply else None,
    }


def _dropped(records: Sequence[RoundRecord]) -> Dropped:
    reasons: dict[str, Counter[str]] = {}
    for record in records:
        for found in (record["clients"]["dropped"], record["eval_dropped"]):
            for name, reason in found.items():
                reasons.setdefault(name, Counter())[reason.split(":")[0]] += 1
        for name, count in record["clients"].get("out_of_step", {}).items():
            reasons.setdefault(name, Counter())[OUT_OF_STEP] += count
    total = sum(sum(counter.values()) for counter in reasons.values())
    return {"total": total, "clients": {name: dict(c) for name, c in reasons.items()}}


def _bytes(records: Sequence[RoundRecord]) -> TotalTraffic:
    clients: dict[str, ClientVolume] = {}
    for record in records:
        for name, sizes in record["bytes"]["clients"].items():
            client = clients.setdefault(name, {"down": 0, "up": 0})
            for way in WAYS:
                client[way] += sizes[way]
    down, up = (_volume(records, way) for way in WAYS)
    exchanges = sum(len(record["bytes"]["clients"]) for record in records)
    return {
        "down": down,
        "up": up,
        "clients": clients,
        "per_client_round": {
            "down": down["message"] / exchanges if exchanges else None,
            "up": up["message"] / exchanges if exchanges else None,
        },
    }


def _volume(records: Sequence[RoundRecord], way: Way) -> Volume:
    sizes = [record["bytes"][way] for record in records]
    return {
        "payload": sum(size["payload"] for size in sizes),
        "message": sum(size["message"] for size in sizes),
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
