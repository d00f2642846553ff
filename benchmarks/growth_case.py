"""One figure of `benchmarks/growth.py`: ``growth_case.py KIND SIZE THREADS`` prints it as JSON."""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.inputs import class_names, save_random_clip
from benchmarks.memory import peak_rss_mib
from fedrsclip.bench.worker import run_cell
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.text_encoder import PackedTextEncoder
from fedrsclip_core.clip.text_tower import load_text_tower
from fedrsclip_core.clip.tokens import tokenize_prompts
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.schema import Config, ModelConfig
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.features.encoding import Encoding
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.federated import open_client_data
from fedrsclip_core.data.scenes import SceneSource
from fedrsclip_core.demo.scenes import CLASS_NAMES
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.prompts import ClientState, random_prompt
from fedrsclip_core.learning.training import train_round
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from PIL.Image import Image

DIM = 512
ROUNDS = 3


def clients(size: int, threads: int) -> float:
    """Median seconds of a round of a whole run in this process, after a first one."""
    return statistics.median(_rounds(size, ROUNDS, threads)[1:])


def rounds(size: int, threads: int) -> float:
    """Seconds of all rounds of a run with three clients."""
    return sum(_rounds(3, size, threads))


def classes(size: int, threads: int) -> float:
    """Median seconds of an optimizer step on both prompts, after a first one."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        files = find_clip(ModelConfig(), save_random_clip(Path(folder)))
        tokens = tokenize_prompts(files, class_names(size), 4)
        encoder = PackedTextEncoder(load_text_tower(files, tokens.ids), tokens)
        generator = np.random.default_rng(0)
        features = generator.standard_normal((32, files.dim)).astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        data = FeatureSet(features, generator.integers(0, size, 32))
        shared = random_prompt(4, files.width, 0.02, "shared", 0)
        weight = np.full(size, 0.5, dtype=np.float32)
        state = ClientState(random_prompt(4, files.width, 0.02, "private", 0), weight)
        seconds = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            train_round(
                encoder,
                {SHARED_PROMPT: shared},
                state,
                ClassStatistics(data, size),
                Config(),
                server_round=1,
                client_name="c",
                given=Given(np.zeros((size, files.dim), np.float32)),
            )
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


class Unpainted(SceneSource):
    """Scenes that cost no time to paint: what is measured is all around them."""

    def image(self, i: int) -> "Image":
        """Return the same small image for each."""
        from PIL import Image

        return Image.new("RGB", (1, 1))


def images(size: int, threads: int) -> float:
    """Seconds to open a data set, deal it to ten clients, and look up all features."""
    per_class = size // len(CLASS_NAMES)
    config = compose([f"data.images_per_class={per_class}", "partition=uniform"])
    source = Unpainted([], per_class, seed=0, domain=0)

    def encode(prepared: list[Any]) -> NDArray[np.float32]:
        return np.ones((len(prepared), DIM), dtype=np.float32)

    def look_up() -> None:
        FeatureCache(paths.features_dir(), "random", DIM, 2**36).features(
            source,
            range(len(source)),
            lambda: Encoding(lambda image: image, encode),
            batch_size=4096,
            max_unreadable=0.0,
            on_event=print,
        )

    look_up()
    begin = time.perf_counter()
    open_client_data(config, None, partition_id=0, num_partitions=10)
    look_up()
    return time.perf_counter() - begin


def _rounds(num_clients: int, num_rounds: int, threads: int) -> list[float]:
    """Return the seconds of each round of a run in this process."""
    settings = [
        "run.name=timed",
        f"federation.num_clients={num_clients}",
        f"federation.num_rounds={num_rounds}",
        f"data.images_per_class={max(20, 2 * num_clients)}",
        f"optimizer.threads={threads}",
    ]
    job = {
        "name": "timed",
        "configuration": to_json(compose(settings)),
        "overrides": settings,
        "partitions": [],
        "data_path": "",
    }
    with redirect_stdout(sys.stderr):
        error = run_cell(job)["error"]
    if error:
        raise SystemExit(error)
    records = RunFolder.named("timed").rounds().read()
    return [record["seconds"] for record in records if record["round"] > 0]


KINDS: dict[str, Callable[[int, int], float]] = {
    "clients": clients,
    "classes": classes,
    "images": images,
    "rounds": rounds,
}


def main(kind: str, size: int, threads: int) -> None:
    """Measure one figure and print it as the last line."""
    seconds = KINDS[kind](size, threads)
    print(json.dumps({"seconds": seconds, "peak_mib": peak_rss_mib()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
