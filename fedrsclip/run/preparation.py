"""What is settled before a simulation starts: configuration, model, images, and what travels."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrsclip import machine
from fedrsclip.data.split_record import split_record
from fedrsclip.run import preflight
from fedrsclip.run.decoding import decode_some
from fedrsclip.run.home import check_home
from fedrsclip.run.imports import with_imports
from fedrsclip.run.one_pass import encode_once
from fedrsclip.run.own_tuning import as_started_here
from fedrsclip.run.submission import ENGINE_KEYS, Submission, submission, without_hosts
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.class_texts import with_class_file
from fedrsclip_core.config.overrides import for_simulation, quote, split_site_overrides
from fedrsclip_core.config.reading import reading_of
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.config.unread import with_implied_options
from fedrsclip_core.data.features.cache import FeatureCache
from fedrsclip_core.data.sources import ImageSource
from fedrsclip_core.machine import check_tensorboard
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.records import SplitRecord
from server_app.attempts import check_start


@dataclass(frozen=True)
class Simulation:
    """A run, and what of it stays on this machine.

    Attributes
    ----------
    submission : Submission
        The run, with nothing of this machine.
    federation : FederationConfig
        With this machine's keys.
    environment : dict[str, str]
        By which clients that are started here learn this site's keys.
    split : SplitRecord
        The division of the images.
    found_revisions : dict[str, str]
        The commits of the hub that were found for keys that were not given.
    cache : FeatureCache
        Where clients find the features of images, or put them.
    """

    submission: Submission
    federation: FederationConfig
    environment: dict[str, str]
    split: SplitRecord
    found_revisions: dict[str, str]
    cache: FeatureCache


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes
    ----------
    reason : str
        One sentence.
    log : Path
        What was logged.
    """

    reason: str
    log: Path


def prepare(overrides: Sequence[str], *, echo: Callable[[str], None] = print) -> Simulation:
    """Compose, check machine, model and data, and settle what a server cannot know.

    Images are read for the record of the split only where no earlier run has read them.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show, before anything is started.
    """
    check_home()
    given = with_imports(overrides, echo)
    overrides = with_implied_options(for_simulation(as_started_here(given, echo)))
    travelling, _ = split_site_overrides(with_class_file(overrides))
    config = preflight.compose_here(overrides, given=given)
    machine.check_resources(config.federation)
    check_tensorboard(config.run)
    preflight.check_starts(config)
    slow = machine.slow_bfloat16(config)
    unread = [*preflight.unread_variables(config), *preflight.unread_readings()]
    for line in [*unread, *([slow] if slow else [])]:
        echo(line)
    unasked = preflight.refresh_data(config)
    classes = preflight.check_for_simulation(config)
    for note in [*([unasked] if unasked else []), *preflight.data_notes(config)]:
        echo(note)
    if not config.data.class_names and config.data.name != "demo_scenes":
        listed = ",".join(map(quote, classes))
        travelling.append(f"data.class_names=[{listed}]")
    # Without these, a run that is resumed would take what is newest on another day.
    revisions = {
        "model.revision": preflight.found_model_revision(config),
        "data.hub_revision": preflight.found_data_revision(config),
    }
    found = {key: commit for key, commit in revisions.items() if commit is not None}
    travelling += [f"{key}={commit}" for key, commit in found.items()]
    if config.run.name is None:
        data = configuration.choices(overrides)["data"]
        travelling.append(f"run.name={_new_name(config.method, data)}")
    submitted = submission(without_hosts(config, travelling, ENGINE_KEYS))
    check_start(submitted.config)
    files = preflight.check_model(config)
    cache = FeatureCache.of_images(paths.features_dir(), files, reading_of(config.data))
    if config.data.streaming:
        encode_once(config, files, preflight.images_of(config), echo)
    return Simulation(
        submitted,
        config.federation,
        preflight.site_environment(config),
        split_record(config, lambda source: _hashes(source, cache, echo)),
        found,
        cache,
    )


def _hashes(
    source: ImageSource, cache: FeatureCache, echo: Callable[[str], None]
) -> list[str | None]:
    """Return each image's content hash; of images that are all new, see first that some decode."""

    def try_some(unknown: list[int]) -> None:
        if len(unknown) == len(source):
            decode_some(source, unknown)

    return cache.content_hashes(source, echo, try_some)


def _new_name(method: str, data: str) -> str:
    return f"{method}-{data}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
