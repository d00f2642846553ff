"""A run's figures as plain text: one line per round and a table at the end."""

from collections.abc import Sequence

from fedrsclip_core.printable import printable
from fedrsclip_core.runs.records import Results, RoundRecord
from fedrsclip_core.runs.run_folder import COMPLETED
from fedrsclip_core.runs.units import percent, size

_HEADER = ("test accuracy, %", "zero-shot", "global", "personalized", "worst client", "own classes")


def round_line(record: RoundRecord) -> str:
    """Return one line about a round, from its record in ``metrics.jsonl``."""
    clients = record["clients"]
    parts = [f"round {record['round']:>3}"]
    if clients["asked"]:
        parts.append(f"{clients['valid']}/{clients['asked']} clients")
        loss = (record["loss"] or {}).get("loss")
        parts.append(f"loss {loss:.3f}" if loss is not None else "no loss")
    parts.append(_accuracy(record) + (" (sampled)" if record["sampled"] else ""))
    sizes = record["bytes"]
    if sizes["clients"]:
        down, up = (sizes[d]["message"] / len(sizes["clients"]) for d in ("down", "up"))
        parts.append(f"{size(down)} down, {size(up)} up per client")
    parts.append(f"{record['seconds'] + (record['eval_seconds'] or 0.0):.1f} s")
    if record["failure"]:
        parts.append("failed")
    return " | ".join(parts)


def final_table(results: Results) -> str:
    """Return the summary of a run, from its ``results.json``."""
    lines = [
        f"{results['method']}: {results['rounds']} rounds, {results['num_clients']} clients, "
        f"seed {results['seed']}, run {results['run']}"
    ]
    if results["status"] != COMPLETED:
        lines.append(f"FAILED: {printable(str(results['reason']))}")
    zero_shot = results["zero_shot"]["test"]
    moments = (
        ("start", results["initial"]),
        ("last round", results["last"]),
        ("best on validation", results["val_best"]),
    )
    rows = [_row(title, record, zero_shot) for title, record in moments if record]
    if rows:
        lines += ["", *table([_HEADER, *rows])]
    lines += ["", *_costs(results)]
    dropped = results["dropped"]["total"]
    if dropped:
        lines.append(f"dropped replies: {dropped}")
    if results["refused"]:
        lines.append(f"refused clients: {printable(', '.join(results['refused']))}")
    return "\n".join(lines)


def _costs(results: Results) -> list[str]:
    traffic = results["bytes"]
    mean = traffic["per_client_round"]
    lines = [f"time: {results['seconds']:.1f} s"]
    if mean["down"] is not None:
        lines.append(
            f"bytes per client and round: {mean['down']:.0f} down, {mean['up']:.0f} up; in all "
            f"{size(traffic['down']['message'])} down, {size(traffic['up']['message'])} up, of "
            f"which shared tensors {size(traffic['down']['payload'])} and "
            f"{size(traffic['up']['payload'])}"
        )
    return lines


def _accuracy(record: RoundRecord) -> str:
    figures = record["test"]
    if figures is None:
        return "not evaluated"
    known = []
    # No round changes zero-shot accuracy.
    if not record["round"] and figures["zero_shot"] is not None:
        known.append(f"zero-shot {percent(figures['zero_shot'])}")
    if figures["global"] is not None:
        known.append(f"global {percent(figures['global'])}")
    personal = figures["personalized"]
    if personal is not None:
        known.append(
            f"personalized {percent(personal['mean'])} (worst {percent(personal['worst'])})"
        )
    return "test: " + (", ".join(known) if known else "no test images")


def _row(title: str, record: RoundRecord, zero_shot: float | None) -> tuple[str, ...]:
    test = record["test"]
    personal, own = (test["personalized"], test["personalized_own"]) if test else (None, None)
    mean = f"{percent(personal['mean'])} ± {percent(personal['std'])}" if personal else "-"
    sampled = ", sampled" if record["sampled"] else ""
    return (
        f"{title} ({record['round']}{sampled})",
        percent(zero_shot),
        percent(test["global"] if test else None),
        mean,
        percent(personal["worst"] if personal else None),
        percent(own["mean"] if own else None),
    )


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines of columns: the first at the left, the others at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
