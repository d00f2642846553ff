"""What every command that classifies is told: by what, on which device, how many at once."""

import argparse

from client_app.encoders import pick_device
from fedrsclip.classifier.loading import load_classifier
from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which classifier is meant."""
    parser.add_argument(
        "source",
        metavar="RUN",
        help="the name or folder of a run, or a shared_prompt.safetensors",
    )
    parser.add_argument("--model-path", metavar="DIR", help="the CLIP's folder")
    parser.add_argument("--device", help="cpu, cuda, cuda:<n> or mps; by default CUDA if there is")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, metavar="N", help="images encoded at once"
    )


def open_classifier(options: argparse.Namespace) -> SceneClassifier:
    """Load the classifier that the options say.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    device = pick_device(options.device)
    return load_classifier(options.source, options.model_path, device)
