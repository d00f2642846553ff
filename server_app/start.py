"""The start of what is shared: drawn, computed from public weights, or trained before."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.schema import RANDOM_INIT, Config
from fedrsclip_core.config.shared_tensors import (
    SHARED_OFFSETS_U,
    SHARED_PROMPT,
    Shapes,
    SharedTensors,
    shared_shapes,
)
from fedrsclip_core.errors import RunError, WireError
from fedrsclip_core.learning.prompts import random_prompt
from fedrsclip_core.wire.messages import QUERY_INIT, Identity
from fedrsclip_core.wire.records import pack_query, unpack_init
from server_app.admission import Client, Standard
from server_app.exchange import Exchange, Wait, new_messages
from server_app.given_start import fitting_start
from server_app.labels import class_names
from server_app.roster import ALONE, NOT_THERE


def initial_shared(
    exchange: Exchange,
    clients: Sequence[Client],
    config: Config,
    standard: Standard,
    *,
    needed: int,
) -> tuple[SharedTensors, dict[str, str]]:
    """Return what is shared before the first round, empty where the method shares nothing.

    Words are turned into vectors by the clients, who have CLIP; most must find the same bits, so
    that no single one decides the start or prevents it. Class offsets start at zero, as their
    product does where they have a rank.

    Parameters
    ----------
    exchange, clients, config, standard
        The run.
    needed : int
        Clients after whose answers nobody is waited for much longer.

    Returns
    -------
    tuple[SharedTensors, dict[str, str]]
        The start, and why clients cannot take part that found none or another.

    Raises
    ------
    RunError
        If no majority of those that answer agrees, or the run to start from left nothing that
        fits.
    """
    identity, source = clients[0].identity, config.run.shared_init_from
    shapes = shapes_of(config, identity)
    if source is not None:
        names = class_names(config.data)
        return fitting_start(source, shapes, identity.digests["clip"], names), {}
    refused: dict[str, str] = {}
    starts = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    if SHARED_PROMPT in shapes:
        starts[SHARED_PROMPT] = _prompt(exchange, clients, config, standard, needed, refused)
    if SHARED_OFFSETS_U in shapes:
        n_cls, rank = shapes[SHARED_OFFSETS_U]
        drawn = random_prompt(n_cls, rank, rank**-0.5, "shared-offsets", config.seed)
        starts[SHARED_OFFSETS_U] = drawn
    return starts, refused


def shapes_of(config: Config, identity: Identity) -> Shapes:
    """Return the shapes of what a run shares, by what a client tells of its CLIP and classes."""
    return shared_shapes(
        config.prompt, n_cls=identity.num_classes, width=identity.width, dim=identity.dim
    )


def _prompt(
    exchange: Exchange,
    clients: Sequence[Client],
    config: Config,
    standard: Standard,
    needed: int,
    refused: dict[str, str],
) -> NDArray[np.float32]:
    """Return the start of the shared prompt ``(n_ctx, width)``; whoever has another is refused."""
    n_ctx, width = config.prompt.n_ctx, clients[0].identity.width
    if config.prompt.shared_init == RANDOM_INIT:
        return random_prompt(n_ctx, width, config.prompt.init_std, "shared", config.seed)
    request = pack_query(standard.run_name, standard.code, standard.configuration)
    nodes = [client.node_id for client in clients]
    timeout = config.federation.prepare_timeout
    replies = exchange.ask(
        new_messages(request, nodes, QUERY_INIT),
        timeout,
        waits={} if standard.simulation else dict.fromkeys(nodes, Wait(timeout, timeout, ALONE)),
        needed=needed,
    )
    starts: dict[str, NDArray[np.float32]] = {}
    for client in clients:
        reply = replies[client.node_id]
        if reply.content is None:
            # Who was merely not heard of can train all the same.
            if reply.reason not in NOT_THERE:
                refused[client.name] = (
                    f"it could not compute the shared prompt's start ({reply.reason})"
                )
            continue
        try:
            starts[client.name] = unpack_init(reply.content, (n_ctx, width))
        except WireError as error:
            refused[client.name] = f"it gave no shared prompt's start: {error}"
    return _agreed(starts, refused)


def _agreed(
    starts: Mapping[str, NDArray[np.float32]], refused: dict[str, str]
) -> NDArray[np.float32]:
    """Return what more than half found; the others enter ``refused``."""
    advice = "give all the same CLIP, or use prompt.shared_init=random"
    values = {name: start.tobytes() for name, start in starts.items()}
    common, count = Counter(values.values()).most_common(1)[0] if values else (b"", 0)
    if 2 * count <= len(values):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        who = f"clients {', '.join(values)} found different ones" if values else "nobody found one"
        raise RunError(
            f"there is no start of the shared prompt, {who}"
            + (f" ({reasons})" if reasons else "")
            + f": {advice}"
        )
    for name, value in values.items():
        if value != common:
            refused[name] = f"it found another start of the shared prompt than the others: {advice}"
    return next(starts[name] for name, value in values.items() if value == common)
