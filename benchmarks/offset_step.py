"""What a step on class offsets costs beside one on prompts: seconds of a client's own training.

The CLIP has ViT-B/32's size and random weights, which cost what trained ones do.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.inputs import class_names, save_random_clip
from benchmarks.measuring import Report, arguments, in_turns, medians, publish, settings_of
from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.clip.offset_basis import offset_basis
from fedrsclip_core.clip.text_model import TextModel, load_text_model
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import Config, ModelConfig
from fedrsclip_core.config.shared_tensors import shared_shapes
from fedrsclip_core.data.features.feature_set import FeatureSet
from fedrsclip_core.data.names import words_for
from fedrsclip_core.learning.class_statistics import ClassStatistics
from fedrsclip_core.learning.dual_prompt import Given
from fedrsclip_core.learning.prompts import ClientState, random_prompt
from fedrsclip_core.learning.training import train_round

WIDTH = DIM = 512
METHODS = ("promptfl", "fedrsclip", "class_offsets", "fedrsclip_plus")


def main() -> None:
    """Measure and print one table."""
    options = _options()
    torch.set_num_threads(options.threads)
    report = Report("offset_step", settings_of(options))
    with tempfile.TemporaryDirectory() as folder:
        files = find_clip(ModelConfig(name="random"), save_random_clip(Path(folder) / "clip"))
        for n_cls in options.classes:
            words = words_for(class_names(n_cls), {})
            text = load_text_model(files, words, 4, ["a photo of a {}."], options.device)
            basis = offset_basis(files, 4 * WIDTH // n_cls)
            steps = {name: _step(name, text, basis, options.batch_size) for name in METHODS}
            median = medians(in_turns(steps, options.repeats))
            report.rows += [
                {
                    "classes": n_cls,
                    "method": name,
                    "ms": 1000 * median[name],
                    "promptfl / it": median["promptfl"] / median[name],
                }
                for name in METHODS
            ]
    publish(report, options.json)


def _step(method: str, text: TextModel, basis: np.ndarray, batch_size: int) -> Callable[[], float]:
    """Return what takes as many steps as last long enough and gives the seconds of one."""
    config = compose([f"method={method}", f"optimizer.batch_size={batch_size}"])
    encodes = config.prompt.shared or config.prompt.private
    config.optimizer.local_epochs = 1 if encodes else 100
    n_cls = text.encoder.n_cls
    generator = np.random.default_rng(0)
    features = generator.standard_normal((batch_size, DIM)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    data = FeatureSet(features, np.arange(batch_size) % n_cls)
    statistics_of = ClassStatistics(data, n_cls)
    shapes = shared_shapes(config.prompt, n_cls=n_cls, width=WIDTH, dim=DIM)
    shared = {name: 0.02 * generator.standard_normal(shape) for name, shape in shapes.items()}
    state = _state(config, n_cls)

    def call() -> float:
        begin = time.perf_counter()
        outcome = train_round(
            text.encoder,
            {name: value.astype(np.float32) for name, value in shared.items()},
            state,
            statistics_of,
            config,
            server_round=1,
            client_name="client-0",
            given=Given(text.zero_shot, statistics_of.log_prior, basis),
        )
        return (time.perf_counter() - begin) / outcome.num_steps

    return call


def _state(config: Config, n_cls: int) -> ClientState:
    prompt = config.prompt
    offsets = np.zeros((n_cls, DIM), np.float32) if prompt.private_offsets else None
    if not prompt.private:
        return ClientState(None, class_offsets=offsets)
    weight = np.full(n_cls, prompt.beta, np.float32)
    return ClientState(random_prompt(prompt.n_ctx, WIDTH, 0.02, "private"), weight)


def _options() -> argparse.Namespace:
    parser = arguments(__doc__, threads=1)
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 45])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
