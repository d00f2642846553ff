"""The names of cells' runs."""


def run_name(bench: str, setting: str, method: str, variant: str, seed: int | str) -> str:
    """Return the name of a cell's run."""
    middle = f"-{variant.replace(' ', '')}" if variant else ""
    return f"bench-{bench}-{setting}-{method}{middle}-seed{seed}"
