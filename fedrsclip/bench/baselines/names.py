"""Which baselines there are, by name."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from fedrsclip.bench.baselines.federation import Federation, Outcome

_MODULES = {
    "local_lda": "lda",
    "local_logistic": "logistic",
    "pooled_logistic": "logistic",
    "fedncm": "closed_form",
    "fed3r": "closed_form",
    "fed_linear_head": "linear_head",
    "fed_linear_head_prior": "linear_head",
}
NAMES = tuple(_MODULES)

BY_SCIKIT_LEARN = ("local_lda", "local_logistic", "pooled_logistic")
"""Those that need the optional packages of ``fedrsclip[bench]``."""


def baseline(name: str) -> "Callable[[Federation], Outcome]":
    """Return a baseline's function, which imports what it computes with."""
    module = import_module(f"fedrsclip.bench.baselines.{_MODULES[name]}")
    return cast("Callable[[Federation], Outcome]", getattr(module, name))
