"""The embedded default: generated remote-sensing-like scenes and a tiny CLIP that has seen some."""
