"""What the fork server imports before clients are forked from it; nothing here computes."""

import os
import sys
from importlib import import_module
from types import TracebackType

# Libraries read these where they are loaded: each client computes in one thread, as on Ray.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# Not transformers' image tower: it takes longer than all of this, and a client whose features are
# cached needs none.
MODULES = (
    "client_app.app",
    "client_app.personal_classifier",
    "client_app.private_store",
    "fedrsclip_core.clip.text_model",
    "fedrsclip_core.data.federated",
    "fedrsclip_core.demo.scenes",
    "fedrsclip_core.learning.evaluation",
    "fedrsclip_core.learning.training",
    "safetensors.numpy",
    "tokenizers",
)

for name in MODULES:
    import_module(name)


def _unless_orphaned(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Be silent where a command was ended before the process that it had asked for was forked."""
    if kind is not EOFError:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _unless_orphaned
