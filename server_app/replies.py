"""What a well-formed reply must fulfil besides the wire contract, before it may count."""

import numpy as np

from fedrsclip_core.errors import WireError
from fedrsclip_core.wire.messages import TRAIN, RoundReply
from server_app.admission import Client


def check_reply(reply: RoundReply, client: Client, message_type: str, max_norm: float) -> None:
    """Refuse a weight or a shared tensor that no honest client sends.

    Parameters
    ----------
    reply : RoundReply
        Names, types, shapes and finiteness are checked already.
    client : Client
        Who sent it.
    message_type : str
        Only train messages bring a weight and tensors.
    max_norm : float
        ``federation.max_prompt_norm``, Euclidean, of each tensor.

    Raises
    ------
    WireError
        With the figure that is wrong.
    """
    if message_type != TRAIN:
        return
    if not 0 < reply.num_examples <= client.identity.num_train:
        raise WireError(
            f"num-examples is {reply.num_examples} of {client.identity.num_train} training images"
        )
    for name, tensor in reply.shared.items():
        norm = float(np.linalg.norm(tensor.astype(np.float64)))
        if norm > max_norm:
            raise WireError(
                f"the norm of {name} is {norm:.3g}, federation.max_prompt_norm is {max_norm:g}"
            )
