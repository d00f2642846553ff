"""What the fork server imports before clients are forked from it; nothing here computes."""

import os
import sys
from importlib import import_module
from threading import Event, Thread
from types import TracebackType

# Libraries read these where they are loaded: each client computes in one thread, as on Ray.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

_LOOK_SECONDS = 0.1
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


def _end_with_command(imported: Event) -> None:
    """End before all is imported where the command has ended."""
    command = os.getppid()
    while not imported.wait(_LOOK_SECONDS):
        if os.getppid() != command:
            os._exit(1)


def _unless_orphaned(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Be silent where a command was ended before the process that it had asked for was forked."""
    if kind is not EOFError:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _unless_orphaned
everything = Event()
waits = Thread(target=_end_with_command, args=(everything,))
waits.start()
try:
    for name in MODULES:
        import_module(name)
finally:
    everything.set()
    waits.join()  # a process with threads must not be forked
