"""Windows per second of `fedrsclip map`, from a scene to its files, against the encoder alone.

    python -m benchmarks.map --side 4096
    python -m benchmarks.map --clip random --side 2240 --depth 8 16
    python -m benchmarks.map --clip demo --side 20000 --whole

`encoder` has prepared windows in memory and encodes them as a map does, several batches side by
side, the fastest way that we know; `map` reads the scene strip by strip, cuts, stretches, prepares,
encodes and classifies, and keeps what is done; `files` is the writing of rasters, regions, areas,
picture and page. They take turns. With --whole the scene is mapped once, and the encoder runs on a
part of it before and after.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import Cell, Report, arguments, in_turns, medians, publish, settings_of
from benchmarks.predict import (
    BATCH,
    DEMO,
    RANDOM,
    Prepared,
    as_it_is,
    classifier_of,
    clip_folder,
)
from fedrsclip.classifier.scene_classifier import SceneClassifier
from fedrsclip.classifier.stream import classified
from fedrsclip.map.mapping import make, open_job
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.reading import AS_THEY_ARE, Reading
from fedrsclip_core.config.schema import ModelConfig

READINGS = {8: AS_THEY_ARE, 16: Reading((), ("0", "3000"))}
_BLOCK = 512
_SAMPLE = 512
"""Windows that the encoder alone encodes."""


def save_scene(path: Path, side: int, depth: int) -> Path:
    """Write a GeoTIFF of smooth noise in tiles, deflated, some rows at a time."""
    import rasterio  # type: ignore[import-untyped]
    from PIL import Image
    from rasterio.transform import from_origin  # type: ignore[import-untyped]
    from rasterio.windows import Window  # type: ignore[import-untyped]

    generator = np.random.default_rng(0)
    kind = np.uint8 if depth == 8 else np.uint16
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=3,
        dtype=kind,
        crs="EPSG:32632",
        transform=from_origin(500_000, 5_500_000, 0.5, 0.5),
        photometric="RGB",
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        compress="deflate",
        predictor=2,
        bigtiff="if_safer",
    ) as file:
        for top in range(0, side, _BLOCK):
            rows = min(_BLOCK, side - top)
            coarse = generator.integers(0, 256, (max(1, rows // 16), side // 16, 3), np.uint8)
            smooth = Image.fromarray(coarse).resize((side, rows), Image.Resampling.BICUBIC)
            # Noise of a sensor, which does not compress away.
            noise = generator.integers(0, 8, (rows, side, 3), np.uint8)
            pixels = (np.asarray(smooth) // 2 + noise).astype(kind) * (1 if depth == 8 else 11)
            file.write(np.moveaxis(pixels, -1, 0), window=Window(0, top, side, rows))
    return path


def measure(
    classifier: SceneClassifier, scene: Path, depth: int, options: argparse.Namespace
) -> dict[str, Cell]:
    """Return a row: rates of one CLIP on one scene."""
    side = classifier.encoder.side
    generator = np.random.default_rng(1)
    sample = [
        classifier.prepare(generator.integers(0, 256, (side, side, 3), np.uint8))
        for _ in range(_SAMPLE)
    ]
    alone = Prepared.of(classifier)
    rates: dict[str, float] = {}
    cpu: dict[str, list[float]] = {"encoder": [], "map": []}

    def encode() -> float:
        started, used = time.perf_counter(), time.process_time()
        for _ in classified(alone, sample, as_it_is, batch_size=BATCH):
            pass
        cpu["encoder"].append((time.process_time() - used) / _SAMPLE)
        return (time.perf_counter() - started) / _SAMPLE

    def map_scene() -> float:
        with (
            tempfile.TemporaryDirectory() as out,
            open_job(
                classifier, scene, tile=side, overlap=options.overlap, reading=READINGS[depth]
            ) as job,
        ):
            started, used = time.perf_counter(), time.process_time()
            last, last_used = started, used

            def on_windows(count: int) -> None:
                nonlocal last, last_used
                last, last_used = time.perf_counter(), time.process_time()

            make(job, Path(out) / "map", batch_size=BATCH, on_windows=on_windows)
            rates["windows"] = job.num_windows
            cpu["map"].append((last_used - used) / job.num_windows)
            rates["files, s"] = time.perf_counter() - last
            return (last - started) / job.num_windows

    if options.whole:
        before, mapped, after = encode(), map_scene(), encode()
        encoder = [(before + after) / 2]
        found = {"encoder": encoder, "map": [mapped]}
    else:
        found = in_turns({"encoder": encode, "map": map_scene}, options.repeats)
    seconds = medians(found)
    pairs = zip(found["encoder"], found["map"], strict=True)
    used = medians(cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "windows": int(rates["windows"]),
        "encoder, windows/s": 1 / seconds["encoder"],
        "map, windows/s": 1 / seconds["map"],
        "% of the encoder": 100 * float(np.median([alone / whole for alone, whole in pairs])),
        "% of its CPU time": 100 * used["encoder"] / used["map"],
        "map, s": seconds["map"] * rates["windows"],
        "files, s": rates["files, s"],
        "peak memory, MiB": peak / 1024,
    }


def main(arguments_: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--clip", nargs="+", default=[DEMO, RANDOM], help="or folders of CLIPs")
    parser.add_argument("--side", type=int, default=4096, help="pixels of the scene's side")
    parser.add_argument("--depth", type=int, nargs="+", choices=READINGS, default=[8, 16])
    parser.add_argument("--overlap", type=float, default=0.0)
    parser.add_argument("--device", default="cpu", help="cpu, or e.g. cuda")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="map it once")
    options = parser.parse_args(arguments_)
    torch.set_num_threads(options.threads)
    report = Report("map", settings_of(options))
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        for clip in options.clip:
            files = find_clip(ModelConfig(), clip_folder(clip, made))
            classifier = classifier_of(files, options.device)
            for depth in options.depth:
                scene = made / f"{depth}.tif"
                if not scene.exists():
                    save_scene(scene, options.side, depth)
                row = measure(classifier, scene, depth, options)
                report.rows.append({"clip": clip, "bits": depth, **row})
    report.notes = [
        "45 classes. The share is the median of those of the turns; that of CPU time says the same "
        "on a machine that others use, too. Memory is the process's own at its highest, torch and "
        "the CLIP included.",
    ]
    publish(report, options.json)


if __name__ == "__main__":
    main()
