"""The packages of ``fedrsclip[bench]``, which not every benchmark needs."""

from importlib.util import find_spec

from fedrsclip_core.errors import ConfigError

MIN_PAIRS = 6
"""Seeds from which on a table of differences has p-values, which SciPy computes."""

_PACKAGES = {"sklearn": "scikit-learn", "scipy": "scipy"}


def check(what: str) -> None:
    """Refuse what needs scikit-learn and SciPy where they are missing.

    Raises
    ------
    ConfigError
        Naming ``what`` needs them and the command that helps.
    """
    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f"{what} needs {' and '.join(missing)}: pip install 'fedrsclip[bench]'")
