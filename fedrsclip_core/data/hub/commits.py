"""Commits of data sets on the hub."""

import re

from fedrsclip_core.data.hub.spec import HubSpec

_COMMIT = re.compile("[0-9a-f]{40}")
_SECONDS = 5.0


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit, which never changes."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def newest_commit(spec: HubSpec) -> str | None:
    """Return the commit that the hub has under the revision, ``None`` if it cannot be asked."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(str(spec.hub_id), revision=spec.revision, timeout=_SECONDS)
    except Exception:  # Its versions differ in the network library whose errors come through.
        return None
    return info.sha
