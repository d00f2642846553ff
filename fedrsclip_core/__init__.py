"""Federated dual-prompt CLIP: model, losses, training, data and the wire contract."""

__version__ = "0.1.0"
