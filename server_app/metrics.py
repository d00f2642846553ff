"""From clients' counts to the figures of a round."""

from collections.abc import Mapping, Sequence

import numpy as np

from fedrsclip_core.learning.calibration import fit_factor
from fedrsclip_core.runs.records import Accuracies, Evaluated, Spread
from fedrsclip_core.wire.messages import CALIBRATION_FACTORS, EVAL_PARTS, LOSS_TERMS, RoundReply


def accuracies(replies: Mapping[str, RoundReply], num_clients: int) -> Evaluated:
    """Summarise one evaluation.

    Parameters
    ----------
    replies : Mapping[str, RoundReply]
        Checked replies by client name.
    num_clients : int
        Clients of the federation; ``sampled`` says that fewer have answered.
    """
    given = list(replies.values())
    return {
        "sampled": len(replies) < num_clients,
        "clients_evaluated": len(replies),
        "clients_without_images": {
            part: sum(not reply.total.get(part) for reply in replies.values())
            for part in EVAL_PARTS
        },
        "val": _part("val", given),
        "test": _part("test", given),
    }


def client_accuracies(reply: RoundReply) -> dict[str, dict[str, float | None]]:
    """Return one client's accuracies by part and mode."""
    return {
        part: {
            mode.replace("-", "_"): _ratio(reply.correct[part, mode], reply.total[part])
            for (of_part, mode) in reply.correct
            if of_part == part
        }
        for part in EVAL_PARTS
    }


def mean_losses(replies: Sequence[RoundReply]) -> dict[str, float | None]:
    """Average each loss term over clients, weighted by their numbers of examples."""
    means: dict[str, float | None] = {}
    for term in LOSS_TERMS:
        known = [reply for reply in replies if term in reply.losses]
        examples = sum(reply.num_examples for reply in known)
        weighted = sum(reply.num_examples * reply.losses[term] for reply in known)
        means[term.replace("-", "_")] = weighted / examples if examples else None
    return means


def calibrated_factor(replies: Sequence[RoundReply]) -> float | None:
    """Fit by what to multiply CLIP's inverse temperature to the clients' validation images.

    Whatever a client tells, it is between a tenth and ten.
    """
    sums = [reply.cross_entropies for reply in replies if reply.cross_entropies]
    if not sums:
        return None
    return fit_factor(np.array(sums).sum(axis=0), CALIBRATION_FACTORS)


def _part(part: str, replies: Sequence[RoundReply]) -> Accuracies:
    return {
        "images": sum(reply.total.get(part, 0) for reply in replies),
        "zero_shot": _pooled(part, "zero-shot", replies),
        "global": _pooled(part, "global", replies),
        "personalized": _over_clients(part, "personalized", replies),
        "personalized_own": _over_clients(part, "personalized-own", replies),
    }


def _pooled(part: str, mode: str, replies: Sequence[RoundReply]) -> float | None:
    known = [reply for reply in replies if (part, mode) in reply.correct]
    correct = sum(reply.correct[part, mode] for reply in known)
    return _ratio(correct, sum(reply.total[part] for reply in known))


def _over_clients(part: str, mode: str, replies: Sequence[RoundReply]) -> Spread | None:
    """Mean, deviation and worst over the clients that have images; pooled over all images."""
    known = [reply for reply in replies if (part, mode) in reply.correct and reply.total[part]]
    if not known:
        return None
    each = np.array([reply.correct[part, mode] / reply.total[part] for reply in known])
    return {
        "mean": float(each.mean()),
        "std": float(each.std()),
        "worst": float(each.min()),
        "best": float(each.max()),
        "pooled": _pooled(part, mode, known),
        "clients": len(known),
    }


def _ratio(correct: int, total: int) -> float | None:
    return correct / total if total else None
