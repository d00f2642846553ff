"""The words in which every command that classifies says by what, where, how many at once."""

import argparse
from collections.abc import Mapping

from client_app.encoders import pick_device
from fedrsclip.classifier.loading import load_classifier
from fedrsclip.classifier.personal import is_export, load_personal_classifier
from fedrsclip.classifier.scene_classifier import BATCH_SIZE, SceneClassifier
from fedrsclip_core.config.reading import Reading, reading_of, with_own_reading
from fedrsclip_core.config.schema import DataConfig

READING_KEYS = ("data.bands", "data.stretch", "data.nodata")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which classifier is meant."""
    parser.add_argument(
        "source",
        metavar="RUN",
        help="the name or folder of a run, a shared_prompt.safetensors, what `fedrsclip publish` "
        "has written (a folder, or owner/name[@revision] on the HuggingFace hub), or what "
        "`fedrsclip private export` has",
    )
    parser.add_argument(
        "--personalized",
        action="store_true",
        help="the classifier of a site of this machine, with its private side",
    )
    parser.add_argument(
        "--client", metavar="NAME", help="whose, where there are several; implies --personalized"
    )
    parser.add_argument(
        "--federation", metavar="NAME", help="of which federation, where there are several"
    )
    parser.add_argument(
        "--classes",
        metavar="A,B,...",
        help="other classes than the run's, also words that nobody trained; @FILE reads them from "
        "a file of classes",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="probabilities by the temperature that was fitted on validation images",
    )
    parser.add_argument("--model-path", metavar="DIR", help="the CLIP's folder")
    parser.add_argument("--device", help="cpu, cuda, cuda:<n> or mps; by default CUDA if there is")
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=BATCH_SIZE,
        metavar="N",
        help=f"images that are encoded at once (default {BATCH_SIZE})",
    )


def open_classifier(options: argparse.Namespace) -> SceneClassifier:
    """Load the classifier that the options say.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    """
    device = options.device or pick_device(None)
    personalized = options.personalized or options.client or options.federation
    if personalized or is_export(options.source):
        return load_personal_classifier(
            options.source,
            options.client,
            options.model_path,
            device,
            classes=options.classes,
            calibrated=options.calibrated,
            federation=options.federation,
        )
    return load_classifier(
        options.source,
        options.model_path,
        device,
        classes=options.classes,
        calibrated=options.calibrated,
    )


def own_reading(reading: Reading, given: Mapping[str, str]) -> Reading:
    """Return how images of another sensor become RGB: as before, but for the keys that are given.

    Parameters
    ----------
    reading : Reading
        The classifier's.
    given : Mapping[str, str]
        Texts of some of :data:`READING_KEYS`, as overrides have them.

    Raises
    ------
    ConfigError
        If one means nothing.
    """
    data = DataConfig(
        bands=list(reading.bands), stretch=list(reading.stretch), nodata=reading.nodata
    )
    own = {key.removeprefix("data."): value for key, value in given.items()}
    return reading_of(with_own_reading(data, own))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number
