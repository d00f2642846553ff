"""The model card: what a stranger must know before using what was published."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip.publish.finished import Finished
from fedrsclip_core.config.shared_tensors import OFFSETS, SHARED_PROMPT
from fedrsclip_core.printable import printable
from fedrsclip_core.runs.units import percent

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

NOT_STATED = "not stated"
_TEMPLATES = Path(__file__).resolve().parent / "templates"
_NAME = "owner/name"


@dataclass(frozen=True)
class Stated:
    """What only the publisher can say.

    Attributes
    ----------
    name : str or None
        ``owner/name`` on the hub.
    license : str or None
        The licence of what is published, by the hub's identifier.
    data : str or None
        What the images were.
    data_license : str or None
        Their licence.
    """

    name: str | None = None
    license: str | None = None
    data: str | None = None
    data_license: str | None = None


def complete(stated: Stated, run: Finished) -> Stated:
    """Fill in what is known of the data."""
    data, data_license = stated.data, stated.data_license
    if data is None and run.sets:
        data = "; ".join(f"{one.title} ({one.cite})" for one in run.sets)
        said = [f"{one.title}: {one.licence}" for one in run.sets]
        data_license = data_license or ("; ".join(said) if len(said) > 1 else run.sets[0].licence)
    elif data is None and run.generated:
        data = "generated scenes that look like remote-sensing images, drawn by FedRSCLIP's demo"
        data_license = data_license or "none, they are drawn by a program"
    elif data is None and run.config.get("data.hub_id"):
        data = f"{run.config['data.hub_id']} on the HuggingFace hub"
    return Stated(stated.name, stated.license, data, data_license)


def missing(stated: Stated) -> list[str]:
    """Return what nobody has said, as the keys that say it."""
    shown = {
        "name": "name=owner/name",
        "license": "license=ID",
        "data": "data=TEXT",
        "data_license": "data_license=TEXT",
    }
    return [key for name, key in shown.items() if getattr(stated, name) is None]


def card(run: Finished, stated: Stated, *, picture: bool) -> str:
    """Return the text of ``README.md``.

    Parameters
    ----------
    run : Finished
        The run.
    stated : Stated
        What is said of it, completed.
    picture : bool
        Whether ``accuracy.png`` lies beside it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    prompt, figures = run.prompt, run.figures
    local = not prompt.hub_id and prompt.model != "demo_clip"
    return environment.get_template("card.md").render(
        header=_header(run, stated),
        title=stated.name or run.folder.name,
        name=stated.name or _NAME,
        not_stated=NOT_STATED,
        stated=stated,
        has_prompt=SHARED_PROMPT in prompt.shared,
        has_offsets=bool(set(OFFSETS) & prompt.shared.keys()),
        tensors={name: " x ".join(map(str, t.shape)) for name, t in prompt.shared.items()},
        numbers=sum(tensor.size for tensor in prompt.shared.values()),
        clip=_clip(run),
        needs_path=" --model-path CLIP" if local else "",
        needs_path_python=', model_path="CLIP"' if local else "",
        reading=str(prompt.reading),
        calibrated=prompt.calibrated_factor is not None,
        classes=list(zip(map(_cell, prompt.class_names), map(_cell, prompt.words), strict=True)),
        templates=[printable(text) for text in prompt.templates],
        rows=None if figures is None else _rows(run),
        images=0 if figures is None else figures.images,
        run=run,
        method=run.config.get("method", ""),
        partition=run.config.get("partition.name", ""),
        versions=_versions(run.versions),
        picture=picture,
    )


def _header(run: Finished, stated: Stated) -> str:
    """Return the YAML that the hub reads."""
    from huggingface_hub import ModelCardData

    prompt, hub_id = run.prompt, run.config.get("data.hub_id")
    offsets = SHARED_PROMPT not in prompt.shared
    data = ModelCardData(
        license=stated.license,
        library_name="fedrsclip",
        pipeline_tag="image-classification" if offsets else "zero-shot-image-classification",
        tags=["remote-sensing", "federated-learning", "prompt-learning", "clip"],
        base_model=prompt.hub_id or None,
        datasets=[hub_id] if hub_id else None,
        model_name=stated.name or run.folder.name,
        eval_results=_results(run),
    )
    return str(data.to_yaml()).strip()


def _results(run: Finished) -> "list[EvalResult] | None":
    from huggingface_hub import EvalResult

    if run.figures is None or run.figures.shared is None:
        return None
    hub_id = run.config.get("data.hub_id")
    known = ", ".join(one.title for one in run.sets)
    named = hub_id or known or ("FedRSCLIP demo scenes" if run.generated else "the clients' images")
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=hub_id or "images",
            dataset_name=f"{named}, test part",
            metric_type="accuracy",
            metric_name="accuracy of all clients' test images together, %",
            metric_value=round(100 * run.figures.shared, 1),
        )
    ]


def _rows(run: Finished) -> list[tuple[str, str]]:
    assert run.figures is not None
    return [
        ("the CLIP alone, by hand-written templates", percent(run.figures.zero_shot)),
        ("**with what is published here**", f"**{percent(run.figures.shared)}**"),
        (
            "each client with its own private side, which is not published; mean over clients",
            percent(run.figures.personalized),
        ),
    ]


def _clip(run: Finished) -> str:
    prompt = run.prompt
    if prompt.hub_id:
        at = f" at `{prompt.revision}`" if prompt.revision else ""
        return f"`{prompt.hub_id}`{at}"
    if prompt.model == "demo_clip":
        return "the tiny CLIP of FedRSCLIP's demo, which comes with the package"
    return f"a CLIP in the clients' own folders, called `{prompt.model}` there"


def _cell(text: str) -> str:
    """Return a name that cannot end a cell of a table or its quotes."""
    return printable(text).replace("`", "'").replace("|", "\\|")


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)
