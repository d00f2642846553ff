"""`fedrsclip check`: what is wrong with this machine or configuration, a line each."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import metadata

from packaging.requirements import Requirement

from client_app.policy import POLICY_VARIABLE, read_policy, require_allowed
from fedrsclip.deploy.clock import SERVER_VARIABLE, NoAnswerError, inspect_clock
from fedrsclip.run.home import check_home
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import shared_shapes
from fedrsclip_core.errors import ConfigError, FedRSCLIPError, RunError


def check(
    overrides: Sequence[str], *, images: bool = False, echo: Callable[[str], None] = print
) -> int:
    """Print a line per finding; return 1 if one of them is a problem.

    Parameters
    ----------
    overrides : Sequence[str]
        A run's.
    images : bool
        Whether each image is decoded, not only some.
    echo : Callable[[str], None]
        Receives the lines.
    """
    problems = 0
    for name, inspect in _inspections(overrides, images, echo):
        try:
            echo(f"ok       {name}: {inspect()}")
        except (FedRSCLIPError, ImportError) as error:
            problems += 1
            echo(f"problem  {name}: {error}")
    if problems:
        echo(f"{problems} problem{'s' if problems > 1 else ''} found")
    return 1 if problems else 0


def _inspections(
    overrides: Sequence[str], images: bool, echo: Callable[[str], None]
) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "python", _python
    yield "packages", inspect_packages
    yield "home", check_home
    # Only a site has a server elsewhere; and it simulates nobody.
    site = SERVER_VARIABLE in os.environ
    if site:
        yield "clock", _clock
    if os.environ.get(POLICY_VARIABLE):
        yield "policy", _policy
    composed: list[Config] = []
    yield "configuration", lambda: _configuration(overrides, composed, site)
    if composed:
        config = composed[0]
        if os.environ.get(POLICY_VARIABLE):
            yield "run", lambda: _allowed(config)
        if not site:
            yield "start", lambda: _start(config)
            yield "resources", lambda: _resources(config)
        yield "model", lambda: _model(config, site)
        opened: list[str] = []
        yield "data", lambda: _data(config, site, opened)
        if opened:  # what cannot be opened may have taken a minute to say so
            yield "images", lambda: _images(config, images, echo)
            yield "prompts", lambda: _prompts(config, images)
            if config.run.shared_init_from is not None and not site:
                yield "shared start", lambda: _shared_start(config, opened)


def _clock() -> str:
    try:
        return inspect_clock()
    except NoAnswerError as error:  # it may not have been started yet, which start waits for
        return f"not known: {error}"


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise RunError(f"this is Python {sys.version.split()[0]}: use 3.11, 3.12 or 3.13")
    return f"{sys.version.split()[0]} in {sys.prefix}"


def installed_version(package: str) -> str | None:
    """Return a package's installed version, ``None`` if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def inspect_packages(version: Callable[[str], str | None] = installed_version) -> str:
    """Return the versions that matter.

    Parameters
    ----------
    version : Callable[[str], str or None]
        Finds a package's installed version.

    Raises
    ------
    RunError
        If a package is missing, or Flower's version is one that is not known to work.
    """
    needed = _requirements()
    missing = [name for name in needed if version(name) is None]
    if missing:
        raise RunError(
            f"{', '.join(missing)} not installed: install fedrsclip with pip; `uv pip install` "
            "and `uv sync` install no dependencies of this project, because Flower would "
            "otherwise download them again for every run"
        )
    flower, wanted = version("flwr") or "", needed["flwr"]
    if not wanted.specifier.contains(flower, prereleases=True):
        raise RunError(
            f"flwr is {flower} but must be {wanted.specifier}: pip install '{wanted}', the same "
            "minor version on all machines of a federation"
        )
    if version("ray") is None:
        raise RunError("ray is not installed: pip install 'flwr[simulation]' in this Python")
    shown = ("flwr", "ray", "torch", "transformers")
    return ", ".join(f"{name} {version(name)}" for name in shown)


def _requirements() -> dict[str, Requirement]:
    """Return what this package requires without extras, by name."""
    try:
        lines = metadata.requires("fedrsclip") or []
    except metadata.PackageNotFoundError as error:
        raise RunError("fedrsclip itself is not installed: run pip install -e .") from error
    found = [Requirement(line) for line in lines]
    return {one.name: one for one in found if one.marker is None or one.marker.evaluate()}


def _configuration(overrides: Sequence[str], composed: list[Config], site: bool) -> str:
    from fedrsclip.run.imports import with_imports
    from fedrsclip.run.preflight import compose_here

    # What a run starts from is its server's.
    read = overrides if site else with_imports(overrides, lambda _line: None)
    config = compose_here(read)
    composed.append(config)
    return f"{config.method}, {config.model.name}, {config.partition.name}"


def _policy() -> str:
    allowed = read_policy().allow_submitted_code
    code = "SUBMITTED CODE MAY RUN HERE" if allowed else "only installed code runs here"
    return f"{code}, as {os.environ[POLICY_VARIABLE]} says"


def _allowed(config: Config) -> str:
    """Say whether the run that is described here may run, as far as can be told before."""
    name = config.run.name or ""
    policy = read_policy()
    # Who submits it may still give it a name.
    known = policy if name else replace(policy, runs=("*",))
    require_allowed(known, config, name, 0, datetime.now())
    return f"the policy lets {name or 'a run of ' + config.federation.name} run"


def _start(config: Config) -> str:
    """Say whether a run of this name can begin at a server in this home."""
    from fedrsclip.run.preflight import check_starts

    check_starts(config)
    return f"{config.run.name} is free" if config.run.name else "a new run"


def _shared_start(config: Config, class_names: Sequence[str]) -> str:
    from fedrsclip.run.preflight import check_model, check_shared_start

    check_shared_start(config, check_model(config), class_names)
    return f"{config.run.shared_init_from} fits"


def _resources(config: Config) -> str:
    from fedrsclip import machine
    from fedrsclip.run.preflight import check_model
    from fedrsclip_core.machine import check_tensorboard

    federation = config.federation
    machine.check_resources(federation)
    check_tensorboard(config.run)
    for program in ("flwr", "flower-superlink"):
        machine.program(program)
    if federation.ray_address is not None:
        return _cluster(config)
    shown = (
        f"engine {federation.engine}, "
        f"{machine.clients_at_once(federation)} of {federation.num_clients} clients at once"
    )
    try:
        folder = check_model(config).folder
    except FedRSCLIPError:  # which the model's own line says
        return shown
    weights = [file for end in ("safetensors", "bin") for file in folder.glob(f"*.{end}")]
    largest = max((file.stat().st_size for file in weights), default=0)
    memory = machine.check_memory(federation, largest)
    return f"{shown}; {memory}" if memory else shown


def _cluster(config: Config) -> str:
    """Say how many clients the nodes of a Ray cluster have room for, or what one lacks."""
    from fedrsclip.ray_cluster.client_actors import joined
    from fedrsclip.run.preflight import site_environment
    from fedrsclip_core.config.resolved import to_json

    configuration, environment = to_json(config), site_environment(config)
    with joined(config.federation, configuration, environment, run_id=0) as cluster:
        return cluster.words


def _model(config: Config, site: bool) -> str:
    from fedrsclip import machine
    from fedrsclip.run.preflight import check_model, found_model_revision

    files = check_model(config)
    found = f"{files.folder}, text width {files.width}, context {files.max_positions}"
    slow = machine.slow_bfloat16(config, site=site)
    note = f"; {slow}" if slow else ""
    return found + _unpinned("model.revision", found_model_revision(config)) + note


def _data(config: Config, site: bool, opened: list[str]) -> str:
    from fedrsclip.run.preflight import (
        check_data,
        check_dealt,
        data_notes,
        found_data_revision,
        refresh_data,
        unread_variables,
    )

    if not site:
        check_dealt(config)
    unasked = refresh_data(config)
    class_names, counts = check_data(config)
    opened += class_names
    said = [*data_notes(config), *([unasked] if unasked else []), *unread_variables(config)]
    notes = "".join(f"; {note}" for note in said)
    smallest = min(range(len(counts)), key=counts.__getitem__)
    return (
        f"{sum(counts)} images in {len(class_names)} classes, fewest in "
        f"{class_names[smallest]} ({counts[smallest]}){notes}"
    ) + _unpinned("data.hub_revision", found_data_revision(config))


def _images(config: Config, all_of_them: bool, echo: Callable[[str], None]) -> str:
    from fedrsclip.run.decoding import decode_all, decode_some
    from fedrsclip.run.preflight import images_of

    if config.data.streaming:
        return "not tried: they are streamed from the hub, and a run reads each once"
    if all_of_them:
        return decode_all(config, echo)
    source = images_of(config)
    return decode_some(source, range(len(source)))


def _unpinned(key: str, commit: str | None) -> str:
    """Say how to pin what comes from the hub."""
    return f"; {key} is not set: {key}={commit} pins what is here now" if commit else ""


def _prompts(config: Config, open_towers: bool) -> str:
    from fedrsclip.run.preflight import check_data, check_model, check_prompts, check_towers
    from fedrsclip_core.wire.precision import what_travels

    try:
        files, (class_names, _) = check_model(config), check_data(config)
    except FedRSCLIPError as error:
        raise ConfigError("cannot be checked without the model") from error
    check_prompts(config, files, class_names)
    if open_towers:  # importing what computes takes seconds
        check_towers(config, files, class_names)
    shapes = shared_shapes(config.prompt, n_cls=len(class_names), width=files.width, dim=files.dim)
    learned = config.prompt.shared or config.prompt.private
    fits = f"{config.prompt.n_ctx} context vectors and each class name fit"
    return (
        f"{fits if learned else 'each class name fits the templates'}; "
        f"{what_travels(shapes, config.prompt.shared_offsets_dtype)}"
    )
