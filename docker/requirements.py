"""Print what one image needs of the project's dependencies, a requirement per line."""

import re
import sys
import tomllib
from pathlib import Path

# At the server runs are watched and reported; it never sees an image. A client trains.
_DRAWING = {"matplotlib", "jinja2", "rich"}
_PLAIN = {
    "flwr",
    "httpx",
    "hydra-core",
    "numpy",
    "cryptography",
    "packaging",
    "pyyaml",
    "safetensors",
    "tomli-w",
}
_SERVER = _PLAIN | _DRAWING
_CLIENT = _PLAIN | {"transformers", "datasets", "tokenizers", "pillow"}
WANTED = {"server": _SERVER, "client": _CLIENT, "torch": {"torch"}}


def requirements(project: Path, image: str) -> list[str]:
    """Return an image's requirements, with the versions of ``pyproject.toml``.

    Raises
    ------
    KeyError
        If there is no such image, or the project lacks one of its dependencies.
    """
    with project.open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    # No extras: Ray is for simulations.
    plain = [re.sub(r"\[.*?\]", "", dependency) for dependency in dependencies]
    named = {re.split(r"[<>=~! ;]", dependency)[0]: dependency for dependency in plain}
    return [named[name] for name in sorted(WANTED[image])]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2])))
