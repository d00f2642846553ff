"""The keys that belong to a site: facts of one machine, which never travel."""

import re
from dataclasses import dataclass

DEVICE = re.compile(r"cpu|mps|cuda(?::(\d+))?")
"""A torch device as a site names it; the group is a CUDA device's number."""


@dataclass(frozen=True)
class SiteKey:
    """Where a site takes the value of a key from.

    Attributes
    ----------
    node_config : str
        The key of Flower's node configuration; it comes first.
    variable : str
        The environment variable.
    """

    node_config: str
    variable: str

    def __str__(self) -> str:
        return f"node configuration ({self.node_config}) or {self.variable}"


SITE_KEYS = {
    "data.path": SiteKey("data-path", "FEDRSCLIP_DATA_PATH"),
    "model.path": SiteKey("model-path", "FEDRSCLIP_MODEL_PATH"),
    "federation.device": SiteKey("device", "FEDRSCLIP_DEVICE"),
}
"""Stripped from what travels, outside digest and ``config.yaml``."""

SITE_READING = {
    "bands": SiteKey("data-bands", "FEDRSCLIP_DATA_BANDS"),
    "stretch": SiteKey("data-stretch", "FEDRSCLIP_DATA_STRETCH"),
    "nodata": SiteKey("data-nodata", "FEDRSCLIP_DATA_NODATA"),
}
"""Keys of ``data`` that travel, and in whose place a site whose sensor is another has its own."""
