"""Whether the hub has a newer commit of a data set than the one that was loaded."""

from fedrsclip_core.data.hub.commits import is_commit, newest_commit
from fedrsclip_core.data.hub.index import forget_index, known_commit
from fedrsclip_core.data.hub.spec import HubSpec


def refresh(spec: HubSpec) -> str | None:
    """Forget what is known of a data set if the hub has a newer commit; one short request.

    For whoever starts a run; its clients are told the commit, and ask nobody.

    Parameters
    ----------
    spec : HubSpec
        A local copy, and a commit that is named, are what they are: then nothing is asked.

    Returns
    -------
    str or None
        A sentence if the hub cannot be asked and an earlier commit is used.
    """
    if spec.path is not None or is_commit(spec.revision):
        return None
    known = known_commit(spec)
    if known is None:
        return None
    newest = newest_commit(spec)
    if newest is None:
        return f"the hub cannot be asked for a newer {spec}: commit {known} is used, as before"
    if newest != known:
        forget_index(spec)
    return None
