"""What a well-formed reply must fulfil besides the wire contract, before it may count."""

import numpy as np

from fedrsclip_core.config.schema import Config
from fedrsclip_core.errors import WireError
from fedrsclip_core.wire.messages import EVAL_PARTS, TRAIN, RoundReply
from server_app.admission import Client

_SECONDS_MORE = 5.0
"""By which a client's own measurement may exceed the server's."""


def check_reply(
    reply: RoundReply,
    client: Client,
    message_type: str,
    config: Config,
    seconds: float,
    *,
    final: bool = False,
) -> None:
    """Refuse a number or a shared tensor that no honest client sends.

    Parameters
    ----------
    reply : RoundReply
        Names, types, shapes and finiteness are checked already.
    client : Client
        Who sent it, and how many images it has told of.
    message_type : str
        Only train messages bring steps and tensors.
    config : Config
        The run's configuration, which says how many steps a round has.
    seconds : float
        Since the message was sent.
    final : bool
        Whether it answers the last evaluation, which alone brings cross-entropies.

    Raises
    ------
    WireError
        With the figure that is wrong.
    """
    identity, examples = client.identity, reply.num_examples
    training = message_type == TRAIN
    if not (1 if training else 0) <= examples <= identity.num_train:
        raise WireError(f"num-examples is {examples} of {identity.num_train} training images")
    told = {"val": identity.num_val, "test": identity.num_test}
    for part in EVAL_PARTS:
        if reply.total.get(part) != told[part]:
            raise WireError(f"{part}-total is {reply.total.get(part)}, but it told {told[part]}")
    most = _most_steps(config, examples) if training else 0
    if reply.num_steps > most:
        raise WireError(f"num-steps is {reply.num_steps}, a round has at most {most}")
    if reply.seconds > seconds + _SECONDS_MORE:
        raise WireError(f"seconds is {reply.seconds:.3g}, but it had {seconds:.3g}")
    if not training and reply.losses:
        raise WireError("an evaluation has no losses")
    if not final and reply.cross_entropies:
        raise WireError("cross-entropies belong to the last evaluation")
    _check_norms(reply, config.federation.max_prompt_norm)


def _most_steps(config: Config, num_examples: int) -> int:
    batches = -(-num_examples // config.optimizer.batch_size)
    return config.optimizer.local_epochs * batches


def _check_norms(reply: RoundReply, max_norm: float) -> None:
    for name, tensor in reply.shared.items():
        norm = float(np.linalg.norm(tensor.astype(np.float64)))
        if norm > max_norm:
            raise WireError(
                f"the norm of {name} is {norm:.3g}, federation.max_prompt_norm is {max_norm:g}"
            )
