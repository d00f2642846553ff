"""What can be known to be wrong before anything is started."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedrsclip_core.clip.files import ClipFiles, find_clip
from fedrsclip_core.config import compose as configuration
from fedrsclip_core.config.overrides import split_site_overrides
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import shared_shapes
from fedrsclip_core.config.site_keys import SITE_KEYS, SITE_READING
from fedrsclip_core.config.validation import ONE_CLASS
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs import paths

if TYPE_CHECKING:
    from fedrsclip_core.data.sources import ImageSource


def compose_here(overrides: Sequence[str], *, given: Sequence[str] | None = None) -> Config:
    """Compose with this machine's site keys: overrides first, then the environment.

    ``given`` is that of :func:`fedrsclip_core.config.compose.compose`.

    Raises
    ------
    ConfigError
        If the configuration is wrong or a site key that it needs is missing.
    """
    config = compose_data(overrides, given=given)
    if config.model.name == "local" and config.model.path is None:
        raise ConfigError(
            "model.path is not set: give it a folder with a HuggingFace CLIPModel, or choose "
            "model=clip_vit_b16"
        )
    return config


def compose_data(overrides: Sequence[str], *, given: Sequence[str] | None = None) -> Config:
    """Compose as :func:`compose_here` for somebody who needs the images and no model.

    Raises
    ------
    ConfigError
        If the configuration is wrong or the images' site key is missing.
    """
    _, site = split_site_overrides(overrides)
    config = configuration.compose(overrides, given=given)
    for key, sources in SITE_KEYS.items():
        value = configuration.get_value(config, key)
        if value is None and key not in site:
            value = os.environ.get(sources.variable) or None
        if value is not None and key.endswith(".path"):
            value = os.path.realpath(paths.place(str(value), key))  # also of a link in a circle
        configuration.set_value(config, key, value)
    configuration.validate(config)
    if config.data.name == "folder" and config.data.path is None:
        raise ConfigError("data.path is not set: give it the folder with the images")
    if config.data.name == "hub" and config.data.path is None and config.data.hub_id is None:
        raise ConfigError("data.hub_id is not set: name a data set of the hub, or give data.path")
    return config


def site_environment(config: Config) -> dict[str, str]:
    """Return the environment by which clients started here learn this site's keys."""
    environment = {"FEDRSCLIP_HOME": str(paths.home().resolve())}
    for key, sources in SITE_KEYS.items():
        environment[sources.variable] = str(configuration.get_value(config, key) or "")
    # Here the federation's words are this machine's.
    return environment | {sources.variable: "" for sources in SITE_READING.values()}


def check_starts(config: Config) -> None:
    """Refuse a taken name and a start that is not there, before images are looked at.

    Raises
    ------
    RunError
        Naming what is in the way.
    """
    from server_app.attempts import check_start

    if not config.run.resume:  # whose classes may be recorded, and not given
        check_start(config)
    source = config.run.private_init_from
    if source is not None:
        kept = paths.private_dir(config.federation.name, source, "client").parent
        if not kept.is_dir():
            raise RunError(
                f"run.private_init_from is {source} but {kept} is not there: name a run of the "
                f"federation {config.federation.name} whose method keeps something private"
            )


def check_for_simulation(config: Config) -> list[str]:
    """Check model, data and partition together; return the class names.

    Raises
    ------
    ConfigError, DataError, ModelError
        Naming what is wrong.
    """
    check_dealt(config)
    files = check_model(config)
    class_names, _ = check_data(config)
    check_prompts(config, files, class_names)
    check_shared_start(config, files, class_names)
    return class_names


def check_shared_start(config: Config, files: ClipFiles, class_names: Sequence[str]) -> None:
    """Refuse a start that was trained for another CLIP, other classes or another method.

    Raises
    ------
    RunError
        Naming what does not fit.
    """
    from server_app.given_start import fitting_start

    source = config.run.shared_init_from
    if source is None or config.run.resume:
        return
    shapes = shared_shapes(config.prompt, n_cls=len(class_names), width=files.width, dim=files.dim)
    fitting_start(source, shapes, files.digest, class_names)


def check_dealt(config: Config) -> None:
    """Refuse a simulation in which nothing deals the images to clients.

    Raises
    ------
    ConfigError
        If each client would have to have a folder of its own.
    """
    if config.partition.name == "site" and config.data.name != "demo_scenes":
        raise ConfigError(
            "partition=site belongs to a real federation, where each client has its own "
            "data.path: in a simulation choose uniform, heterogeneous or dirichlet"
        )


def check_model(config: Config) -> ClipFiles:
    """Find the CLIP.

    Raises
    ------
    ModelError
        If there is none.
    """
    return find_clip(config.model, _path(config.model.path))


def found_model_revision(config: Config) -> str | None:
    """Return the commit of a model that is taken from the hub without saying which.

    Raises
    ------
    ModelError
        If it cannot be found.
    """
    if config.model.hub_id is None or config.model.revision is not None:
        return None
    return check_model(config).commit


def found_data_revision(config: Config) -> str | None:
    """Return the commit of a data set that is taken from the hub without saying which.

    Raises
    ------
    DataError
        If it cannot be found.
    """
    from fedrsclip_core.data.hub.index import find_index
    from fedrsclip_core.data.sources import hub_spec

    if config.data.name != "hub" or config.data.hub_revision is not None:
        return None
    return find_index(hub_spec(config.data, _path(config.data.path))).commit


def check_data(config: Config) -> tuple[list[str], list[int]]:
    """Open the images, split and partition them; return class names and images per class.

    Raises
    ------
    DataError
        If there are none, too few in a class, or fewer than the clients need.
    """
    import numpy as np

    from fedrsclip_core.data.federated import open_client_data

    data = open_client_data(
        config,
        _path(config.data.path),
        partition_id=0,
        num_partitions=config.federation.num_clients,
    )
    if len(data.class_names) == 1:
        raise ConfigError(f"the images have the class {data.class_names[0]!r} alone: {ONE_CLASS}")
    counts = np.bincount(data.source.labels, minlength=len(data.class_names))
    return list(data.class_names), [int(count) for count in counts]


def check_towers(config: Config, files: ClipFiles, class_names: Sequence[str]) -> None:
    """Open both towers as a client does, and let each encode something.

    Raises
    ------
    ConfigError, ModelError
        If weights are cut, damaged or of another shape, or a prompt is too long.
    """
    from PIL import Image

    from client_app.encoders import image_encoder, release_image_encoder, text_model
    from fedrsclip_core.data.names import words_for

    words = tuple(words_for(class_names, config.data.class_words))
    text_model(files, words, config.prompt.vectors, tuple(config.prompt.templates), "cpu")
    encoder = image_encoder(files, "cpu")
    encoder.encode([encoder.prepare(Image.new("RGB", (64, 64)))])
    release_image_encoder()


def unread_variables(config: Config) -> list[str]:
    """Return a line for each variable of this site that is set and not read by this run."""
    lines = []
    data, model = SITE_KEYS["data.path"].variable, SITE_KEYS["model.path"].variable
    if config.data.name == "demo_scenes" and os.environ.get(data):
        lines.append(f"{data} is set but not read: data=demo_scenes draws its images")
    if os.environ.get(model) and config.model.name != "local":
        lines.append(f"{model} is set: its CLIP is used instead of model={config.model.name}")
    return lines


def unread_readings() -> list[str]:
    """Return a line for each variable of a site's own reading, which a simulation does not read."""
    return [
        f"{key.variable} is set but not read: a simulation reads images by data.{name}"
        for name, key in SITE_READING.items()
        if os.environ.get(key.variable)
    ]


def refresh_data(config: Config) -> str | None:
    """Have a data set of the hub loaded again if there is a newer commit than the one known here.

    Returns
    -------
    str or None
        A sentence if the hub cannot be asked.
    """
    from fedrsclip_core.data.hub.freshness import refresh
    from fedrsclip_core.data.sources import hub_spec

    if config.data.name != "hub":
        return None
    return refresh(hub_spec(config.data, _path(config.data.path)))


def images_of(config: Config) -> "ImageSource":
    """Open the images that are dealt to clients.

    Raises
    ------
    DataError
        If there are none.
    """
    from fedrsclip_core.data.federated import open_images

    return open_images(config, _path(config.data.path), partition_id=0)


def data_notes(config: Config) -> list[str]:
    """Return how the images were understood, a sentence each; raises as :func:`images_of`."""
    return images_of(config).notes


def check_prompts(config: Config, files: ClipFiles, class_names: Sequence[str]) -> None:
    """Check that ``n_ctx`` vectors and the longest class name fit the text encoder.

    Raises
    ------
    ConfigError
        Saying by how much they do not.
    """
    from fedrsclip_core.clip.tokens import tokenize_prompts, tokenize_templates
    from fedrsclip_core.data.names import words_for

    words = words_for(class_names, config.data.class_words)
    tokenize_prompts(files, words, config.prompt.vectors)
    tokenize_templates(files, words, config.prompt.templates)


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None
