"""What the fork server imports before clients are forked from it; nothing here computes.

Not transformers' image tower: it takes longer than all of this, and a client whose features are
cached needs none.
"""

from importlib import import_module

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
