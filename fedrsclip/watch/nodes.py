"""Who is connected to a SuperLink."""

from fedrsclip.run.connection import connect
from fedrsclip.run.staging import scratch_folder


def lines(superlink: str) -> list[str]:
    """Return a line per node of a connection of Flower's configuration.

    Raises
    ------
    RunError
        If Flower does not answer.
    """
    with scratch_folder() as scratch:
        found = connect({"connection": superlink}, scratch).nodes()
    said = ["", f"superlink {superlink}: {len(found)} nodes"]
    for node in sorted(found, key=lambda node: (node["name"], node["node_id"])):
        state = node["status"]
        since = node["online_at"] if state == "online" else node["offline_at"]
        name = node["name"] or "without a name"
        said.append(f"  {name} (node {node['node_id']}): {state} since {since or 'never'}")
    return said
