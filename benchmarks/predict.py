"""Images per second of `fedrsclip predict`, from files to rows, against the encoder alone.

    python -m benchmarks.predict --threads 2
    python -m benchmarks.predict --clip random --images 512 --side 600
    python -m benchmarks.predict --clip <folder> --folder <images>

`encoder` has prepared images in memory; it encodes and classifies as many batches side by side as
`predict` does, `one by one` each batch with all threads. `predict` reads, decodes, prepares,
encodes and classifies files, and writes a CSV of them. They take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.gemm import seconds_of
from benchmarks.inputs import class_names, save_images, save_random_clip
from benchmarks.measuring import Cell, Report, arguments, in_turns, medians, publish, settings_of
from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip.classifier.stream import classified
from fedrsclip.predict.out_file import OutFile
from fedrsclip.predict.rows import Csv, Row
from fedrsclip_core.clip import assets
from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.clip.image_encoder import ImageEncoder
from fedrsclip_core.config.schema import ModelConfig
from fedrsclip_core.errors import DataError
from fedrsclip_core.learning.classifier import Classifier

DEMO, RANDOM = "demo", "random"
BATCH = 32


def classifier_of(files: ClipFiles, device: str) -> SceneClassifier:
    """Return one of 45 classes in random directions, which cost what learned ones cost."""
    text = np.random.default_rng(0).normal(size=(45, files.dim)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return SceneClassifier(class_names(45), Classifier(text), 100.0, ImageEncoder(files, device))


class Prepared(SceneClassifier):
    """Takes what is prepared already."""

    @classmethod
    def of(cls, other: SceneClassifier) -> "Prepared":
        """Return one with the same encoder and classes."""
        return cls(other.class_names, other.classifier, other.logit_scale, other.encoder)

    def prepare(self, image: Any) -> torch.Tensor:
        return cast("torch.Tensor", image)


def predicted(classifier: SceneClassifier, paths: Sequence[Path], out: Path) -> None:
    """Write the class of each image, as the command does."""
    for old in out.parent.glob(f"{out.name}*"):
        old.unlink()
    file = OutFile(out, Csv(1), {"digest": classifier.digest, "top": 1})
    found = classified(classifier, paths, lambda path: path, batch_size=BATCH)
    while batch := list(islice(found, BATCH)):
        rows = []
        for path, answer in batch:
            if isinstance(answer, DataError):
                raise answer
            best = int(answer.argmax())
            rows.append(Row(str(path), ((classifier.class_names[best], float(answer[best])),)))
        file.write(rows)
    file.close()


def measure(
    files: ClipFiles, paths: Sequence[Path], options: argparse.Namespace
) -> dict[str, Cell]:
    """Return a row: rates of one CLIP on these files."""
    classifier = classifier_of(files, options.device)
    alone = Prepared.of(classifier)
    prepared = [classifier.prepare(path) for path in paths]
    batches = [prepared[k : k + BATCH] for k in range(0, len(paths), BATCH)]

    def read() -> None:
        for path in paths:
            classifier.prepare(path)

    with tempfile.TemporaryDirectory() as folder:
        actions: dict[str, Callable[[], object]] = {
            "read": read,
            "one by one": lambda: [classifier.probabilities(batch) for batch in batches],
            "encoder": lambda: list(classified(alone, prepared, as_it_is, batch_size=BATCH)),
            "predict": lambda: predicted(classifier, paths, Path(folder) / "out.csv"),
        }
        used: dict[str, list[float]] = {name: [] for name in actions}

        def timed(name: str) -> float:
            before = time.process_time()
            seconds = seconds_of(actions[name], options.device)
            used[name].append(time.process_time() - before)
            return seconds

        variants = {name: partial(timed, name) for name in actions}
        found = in_turns(variants, options.repeats)
    seconds = medians(found)
    pairs = zip(found["encoder"], found["predict"], strict=True)
    return {
        "read and prepare, images/s": len(paths) / seconds["read"],
        "encoder one by one, images/s": len(paths) / seconds["one by one"],
        "encoder, images/s": len(paths) / seconds["encoder"],
        "predict, images/s": len(paths) / seconds["predict"],
        "% of its CPU time": 100 * float(np.median(used["encoder"]) / np.median(used["predict"])),
        "% of the encoder": 100 * float(np.median([own / whole for own, whole in pairs])),
    }


def as_it_is(prepared: torch.Tensor) -> torch.Tensor:
    """Load what needs no loading."""
    return prepared


def clip_folder(clip: str, made: Path) -> Path:
    if clip == DEMO:
        return assets.demo_clip_folder()
    return save_random_clip(made / "clip") if clip == RANDOM else Path(clip)


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--clip", nargs="+", default=[DEMO, RANDOM], help="or folders of CLIPs")
    parser.add_argument("--folder", help="of JPEG files; by default they are made")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of those")
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments_)
    torch.set_num_threads(options.threads)
    report = Report("predict", settings_of(options))
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        folder = options.folder or save_images(
            made / "images", ["scene"], options.images, options.side
        )
        paths = sorted(Path(folder).rglob("*.jpg"))
        paths = paths[:: max(1, len(paths) // options.images)][: options.images]
        for clip in options.clip:
            files = find_clip(ModelConfig(), clip_folder(clip, made))
            report.rows.append({"clip": Path(clip).name, **measure(files, paths, options)})
    report.notes = [
        "`random` has ViT-B/32's size. The last column is the median of those of each turn; the "
        "one before it, the encoder's CPU time in that of predict, tells it beside others, too.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
