"""Words that the picture and the lines of text have in common."""

from fedrsclip_core.live.run import FAILED, INTERRUPTED, RunView


def printable(text: str) -> str:
    """Return text in which nothing from a damaged file can steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def run_title(view: RunView) -> str:
    """Say which run this is."""
    if not view.config:
        return f"run {view.name}"
    method, seed = view.config.get("method"), view.config.get("seed")
    clients = view.config.get("federation.num_clients")
    return f"run {view.name}: {method}, {clients} clients, seed {seed}"


def ending(view: RunView) -> str:
    """Say how a run has ended."""
    why = f": {view.reason}" if view.state in (FAILED, INTERRUPTED) else ""
    return f"run {view.name}: {view.state}{why}"
