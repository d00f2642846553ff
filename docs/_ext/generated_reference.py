"""Reference pages from the code itself: configuration, command line, wire contract.

A line ``<!-- generated: NAME -->`` of a page becomes the Markdown of that name. The functions know
nothing of Sphinx, so that tests need none.
"""

import dataclasses
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, RecordDict

from fedrsclip.cli import parsers
from fedrsclip_core.config.schema import WIRE_DTYPES, Config
from fedrsclip_core.config.shared_tensors import (
    NAMES,
    OFFSETS,
    SHARED_COEFFICIENTS,
    SHARED_OFFSETS,
    SHARED_OFFSETS_U,
    SHARED_OFFSETS_V,
    SHARED_PROMPT,
)
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import STRATEGY_PARAMETERS
from fedrsclip_core.runs.records import Description, Results, RoundRecord, SplitRecord
from fedrsclip_core.wire import messages, records

CONF = Path(__file__).resolve().parents[2] / "conf"
_WIDTH = "100"
_SHAPES = {
    SHARED_PROMPT: "(n_ctx, width)",
    SHARED_OFFSETS: "(classes, projection)",
    SHARED_OFFSETS_U: "(classes, rank)",
    SHARED_OFFSETS_V: "(rank, projection)",
    SHARED_COEFFICIENTS: "(classes, size)",
}
_DEFAULT_OPTION = re.compile(r"^  - (\w+): (\w+)$", re.MULTILINE)


def configuration(conf: Path = CONF) -> str:
    """Return every key with type, default and the comment that stands above it in ``conf/``.

    Raises
    ------
    ValueError
        If nothing explains a key.
    """
    fields = {field.name: field for field in dataclasses.fields(Config)}
    chosen = dict(_DEFAULT_OPTION.findall((conf / "config.yaml").read_text(encoding="utf-8")))
    folders = {
        path.name: sorted(
            path.glob("*.yaml"),
            key=lambda file: (file.stem != chosen.get(file.parent.name), file.stem),
        )
        for path in sorted(conf.iterdir())
        if path.is_dir()
    }
    groups = [name for name, field in fields.items() if dataclasses.is_dataclass(field.type)]
    alone = [field for name, field in fields.items() if name not in {*groups, *folders}]
    lines = ["## Top level", "", *_keys("", alone, _explained([conf / "config.yaml"]))]
    for name in sorted(folders.keys() - set(groups)):
        lines += ["", f"## {name}", "", *_options(name, folders[name])]
    for name in groups:
        kind: Any = fields[name].type
        files = folders.get(name, [])
        explained = _explained([*files, conf / "config.yaml"], inside=name)
        lines += ["", f"## {name}", "", " ".join((kind.__doc__ or "").split()), ""]
        lines += [*_options(name, files), ""] if files else []
        lines += [*_aggregators(), ""] if name == "strategy" else []
        lines += _keys(f"{name}.", dataclasses.fields(kind), explained)
    return "\n".join(lines)


def command_line() -> str:
    """Return the help of every command."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH  # argparse wraps by it
    try:
        helps = {name: parser.format_help() for name, parser in parsers().items()}
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    sections = (f"## {name}\n\n```text\n{text.rstrip()}\n```\n" for name, text in helps.items())
    return "\n".join(sections)


def wire() -> str:
    """Return what each message holds, read from one that the code itself has packed."""
    lines = [f"Protocol version {messages.PROTOCOL_VERSION}.", ""]
    for title, content in _examples():
        lines += [f"## {title}", "", "| record | key | type |", "|---|---|---|"]
        lines += [f"| `{record}` | `{key}` | {kind} |" for record, key, kind in _entries(content)]
        lines += [""]
    lines += ["## Largest numbers", "", "| key | at most |", "|---|---|"]
    lines += [f"| `{key}` | {most:,} |" for key, most in records.MOST.items()]
    lines += [f"| each loss, as an amount | {messages.LARGEST_LOSS:,.0f} |", ""]
    codes = ", ".join(f"`{code.value}`" for code in messages.FailureCode)
    lines += ["## Failures", "", f"A client that cannot do what was asked replies one of: {codes}."]
    return "\n".join(lines)


def run_files() -> str:
    """Return what the JSON files of a run's folder hold, from their types."""
    kinds: list[tuple[str, Any]] = [
        ("A line of metrics.jsonl", RoundRecord),
        ("results.json", Results),
        ("run.json", Description),
        ("split.json", SplitRecord),
    ]
    known = {kind for _, kind in kinds}
    lines: list[str] = []
    for title, kind in kinds:  # grows by the types inside
        lines += [f"### {title}", "", " ".join((kind.__doc__ or "").split()), ""]
        lines += ["| key | type |", "|---|---|"]
        for key, of in typing.get_type_hints(kind).items():
            lines.append(f"| `{key}` | {_cell(_type(of))} |")
            inside = [inner for inner in _typed_dicts(of) if inner not in known]
            known.update(inside)
            kinds += [(inner.__name__, inner) for inner in inside]
        lines.append("")
    return "\n".join(lines)


def _typed_dicts(kind: Any) -> Iterator[Any]:
    if typing.is_typeddict(kind):
        yield kind
    for inner in typing.get_args(kind):
        yield from _typed_dicts(inner)


def _examples() -> Iterator[tuple[str, RecordDict]]:
    shared = {name: np.zeros((1, 1), np.float32) for name in NAMES}
    identity = messages.Identity(
        client_name="north",
        partition_id=0,
        num_partitions=2,
        digests=dict.fromkeys(messages.DIGEST_PARTS, "0"),
        n_ctx=4,
        width=512,
        dim=512,
        num_classes=1,
        num_train=1,
        num_val=1,
        num_test=1,
        label_counts=(1,),
    )
    reply = messages.RoundReply(
        num_examples=1,
        seconds=1.0,
        shared=shared,
        num_steps=1,
        losses=dict.fromkeys(messages.LOSS_TERMS, 1.0),
        correct={(p, m): 1 for p in messages.EVAL_PARTS for m in messages.EVAL_MODES},
        total=dict.fromkeys(messages.EVAL_PARTS, 1),
    )
    kinds = (messages.QUERY_IDENTITY, messages.QUERY_PREPARE, messages.QUERY_INIT)
    queries = ", ".join(f"`{kind}`" for kind in kinds)
    yield f"Request: {queries}", records.pack_query("first", "0", "{}")
    yield (
        f"Reply to `{messages.QUERY_IDENTITY}` and `{messages.QUERY_PREPARE}`",
        records.pack_identity(identity),
    )
    yield f"Reply to `{messages.QUERY_INIT}`", records.pack_init(shared[SHARED_PROMPT])
    request = messages.RoundRequest(server_round=1, run_name="first", shared=shared)
    yield (
        f"Request: `{messages.TRAIN}`, `{messages.EVALUATE}`",
        records.pack_round_request(request, "{}", "int8"),
    )
    yield (
        f"Reply to `{messages.TRAIN}`",
        records.pack_round_reply(reply, with_arrays=True, offsets_dtype="int8"),
    )
    last = dataclasses.replace(reply, cross_entropies=messages.CALIBRATION_FACTORS)
    yield f"Reply to `{messages.EVALUATE}`", records.pack_round_reply(last, with_arrays=False)


def _entries(content: RecordDict) -> Iterator[tuple[str, str, str]]:
    for name, record in content.items():
        for key, value in record.items():
            if isinstance(value, Array):
                yield name, key, _array(key)
            else:
                yield name, key, type(value).__name__


def _array(name: str) -> str:
    tensor = name.removesuffix("_scale")
    if tensor != name:
        return f"float32 `{_SHAPES[tensor].split(',')[0]},)`, beside int8"
    dtypes = WIRE_DTYPES if name in OFFSETS else ("float32",)
    return f"{' or '.join(dtypes)} `{_SHAPES[name]}`"


def _options(group: str, files: list[Path]) -> list[str]:
    rows = [f"| `{group}={path.stem}` | {_cell(_head(path))} |" for path in files]
    return ["| option | what it is |", "|---|---|", *rows]


def _aggregators() -> list[str]:
    rows = [
        f"| `strategy={name}` | {', '.join(f'`strategy.{key}`' for key in keys)} |"
        for name, keys in STRATEGY_PARAMETERS.items()
    ]
    return ["| aggregator of Flower | reads |", "|---|---|", *rows]


def _keys(prefix: str, fields: Any, explained: Mapping[str, str]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        key = f"{prefix}{field.name}"
        if field.name not in explained:
            raise ValueError(f"{key} is explained nowhere in conf/: add a comment above it")
        site = " *Site key.*" if key in SITE_KEYS and "ite key" not in explained[field.name] else ""
        lines.append(
            f"| `{key}` | {_type(field.type)} | `{_default(field)}` | "
            f"{_cell(explained[field.name])}{site} |"
        )
    return lines


def _explained(files: list[Path], inside: str | None = None) -> dict[str, str]:
    """Return the comment above each key; the first file that has one counts.

    Parameters
    ----------
    files : list[Path]
        Files of one group, whose keys are not indented, or ``config.yaml``, whose keys of a group
        are indented below its name.
    inside : str or None
        The group; ``None`` for keys that belong to none.
    """
    found: dict[str, str] = {}
    for path in files:
        nested = inside is not None and path.name == "config.yaml"
        block: str | None = None
        comment: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if text.startswith("#"):
                comment.append(text.removeprefix("#").strip())
                continue
            key, colon, _ = text.partition(":")
            if colon and not text.startswith("-"):
                if not line.startswith(" "):
                    block = key
                wanted = line.startswith("  ") and block == inside if nested else key == block
                if wanted and comment:
                    found.setdefault(key, " ".join(comment))
            comment = []
    return found


def _head(path: Path) -> str:
    """Return the comment that a file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _type(kind: Any) -> str:
    if isinstance(kind, type) and not typing.get_args(kind):
        return kind.__name__
    text = re.sub(r"(?:\w+\.)+(?=\w)", "", str(kind))  # without the modules
    return text.replace("|", "or").replace("None", "null")


def _default(field: "dataclasses.Field[Any]") -> str:
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{}", "`{}`")


PAGES: Mapping[str, Callable[[], str]] = {
    "configuration": configuration,
    "command line": command_line,
    "wire": wire,
    "run files": run_files,
}


def fill(source: str) -> str:
    """Replace each line ``<!-- generated: NAME -->``."""
    for name, page in PAGES.items():
        mark = f"<!-- generated: {name} -->"
        if mark in source:
            source = source.replace(mark, page())
    return source


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""

    def read(_: object, __: str, source: list[str]) -> None:
        source[0] = fill(source[0])

    app.connect("source-read", read)
    return {"parallel_read_safe": True}
