"""The shared prompt's start: drawn here, or computed by the clients from public weights."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.config.schema import RANDOM_INIT, Config
from fedrsclip_core.errors import RunError, WireError
from fedrsclip_core.learning.prompts import random_prompt
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.shared_prompt import NoSharedPromptError, read_shared_prompt
from fedrsclip_core.wire.messages import QUERY_INIT
from fedrsclip_core.wire.records import pack_query, unpack_init
from server_app.admission import Client, Standard
from server_app.exchange import Exchange, new_messages


def initial_shared(
    exchange: Exchange, clients: Sequence[Client], config: Config, standard: Standard
) -> NDArray[np.float32] | None:
    """Return the shared prompt before the first round, ``None`` where the method has none.

    Words are turned into vectors by the clients, who have CLIP; all must find the same bits, so
    that no single one decides the start.

    Raises
    ------
    RunError
        If a client does not answer or finds something else, or the run to start from left no
        shared prompt that fits.
    """
    if not config.prompt.shared:
        return None
    n_ctx, width = config.prompt.n_ctx, clients[0].identity.width
    if config.run.shared_init_from is not None:
        return _of_run(config.run.shared_init_from, (n_ctx, width), clients[0].identity.digests)
    if config.prompt.shared_init == RANDOM_INIT:
        return random_prompt(n_ctx, width, config.prompt.init_std, "shared", config.seed)
    request = pack_query(standard.run_name, standard.code, standard.configuration)
    nodes = [client.node_id for client in clients]
    replies = exchange.ask(
        new_messages(request, nodes, QUERY_INIT), config.federation.prepare_timeout
    )
    starts: dict[str, NDArray[np.float32]] = {}
    for client in clients:
        reply = replies[client.node_id]
        if reply.content is None:
            raise RunError(
                f"client {client.name} could not compute the shared prompt's start "
                f"({reply.reason}): see its site log, or use prompt.shared_init=random"
            )
        try:
            starts[client.name] = unpack_init(reply.content, (n_ctx, width))
        except WireError as error:
            raise RunError(
                f"client {client.name} gave no shared prompt's start: {error}"
            ) from error
    return _agreed(starts)


def _of_run(name: str, shape: tuple[int, int], digests: Mapping[str, str]) -> NDArray[np.float32]:
    """Read the shared prompt that a run at this server ended with."""
    path = RunFolder.named(name).shared_prompt
    refused = f"run.shared_init_from is {name} but {path}"
    try:
        found = read_shared_prompt(path)
    except FileNotFoundError:
        raise RunError(
            f"{refused} is not there: name a run whose method has a shared prompt"
        ) from None
    except NoSharedPromptError as error:
        raise RunError(f"{refused} {error}") from error
    if found.clip != digests["clip"]:
        raise RunError(f"{refused} was trained for another CLIP: give model.path that one")
    if found.shared.shape != shape:
        raise RunError(f"{refused} holds float32 {found.shared.shape}, expected float32 {shape}")
    return found.shared


def _agreed(starts: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    values = {name: start.tobytes() for name, start in starts.items()}
    common = Counter(values.values()).most_common(1)[0][0]
    odd = [name for name, value in values.items() if value != common]
    if odd:
        raise RunError(
            f"clients {', '.join(odd)} found another start of the shared prompt than the others: "
            "give all the same CLIP, or use prompt.shared_init=random"
        )
    return next(iter(starts.values()))
