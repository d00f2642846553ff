"""`fedrsclip publish`: write what a model hub expects of a completed run."""

import argparse
import re
from collections.abc import Callable, Sequence

from fedrsclip.key_values import key_values
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.units import size

Echo = Callable[[str], None]

_KEYS = ("out", "name", "license", "data", "data_license")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def publish(arguments: Sequence[str], *, echo: Echo = print) -> int:
    """Write the folder and say what is left to do; return the exit status.

    Raises
    ------
    FedRSCLIPError
        With the sentence to show.
    OSError
        If the folder cannot be written.
    """
    options = parser().parse_args(arguments)
    given = _given(options.given)
    if "out" not in given:
        raise ConfigError("out is not set: out=DIR is a new folder for what is published")
    out = paths.free_folder(given.pop("out"), "out")
    from fedrsclip.publish.card import Stated, complete, missing
    from fedrsclip.publish.finished import read_finished
    from fedrsclip.publish.folder import CARD, write_folder

    run = read_finished(options.run)
    stated = complete(Stated(**given), run)
    files = write_folder(out, run, stated)
    prompt = run.prompt
    echo(f"{out}: {prompt.run}, round {prompt.server_round}, {len(prompt.class_names)} classes")
    for file in files:
        echo(f"  {file.name}, {size(file.stat().st_size)}")
    if unsaid := missing(stated):
        echo(f"{CARD} leaves open what only you know: publish again with {' '.join(unsaid)}")
    echo(f"try it: fedrsclip predict {out} IMAGES")
    echo(f"next: read {out / CARD}, then hf upload {stated.name or 'owner/name'} {out}")
    return 0


def _given(words: Sequence[str]) -> dict[str, str]:
    from fedrsclip_core.config.texts import is_plain
    from fedrsclip_core.runs.published import is_hub_id

    found = key_values(words, _KEYS)
    for key, value in found.items():
        if key != "out" and not is_plain(value):
            raise ConfigError(f"{key} has control characters: write it on one line")
    if "name" in found and ("@" in found["name"] or not is_hub_id(found["name"])):
        raise ConfigError(f"name is {found['name']!r}: give owner/name as on the hub")
    if "license" in found and not _LICENSE.fullmatch(found["license"]):
        raise ConfigError(
            f"license is {found['license']!r}: give the hub's identifier, such as apache-2.0, "
            "cc-by-4.0 or other"
        )
    return found


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="fedrsclip publish",
        description="Write a folder that a model hub takes: what a completed run shares, what it "
        "is, and a model card. Nothing of a client goes in. Nothing is uploaded.",
        usage="fedrsclip publish RUN out=DIR [name=owner/name] [license=ID] [data=TEXT] "
        "[data_license=TEXT]",
        allow_abbrev=False,
    )
    made.add_argument("run", metavar="RUN", help="the name or folder of a completed run")
    made.add_argument(
        "given",
        nargs="*",
        metavar="key=value",
        help="out: a new folder; name: what it will be called on the hub; license: by the "
        "hub's identifier; data, data_license: what the images were, where the run does not say it",
    )
    return made
