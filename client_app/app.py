"""The ClientApp: thin handlers, and the guard that lets no sentence leave the site."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app import rounds
from client_app.encoders import make_repeatable
from client_app.failures import code_of
from client_app.features import PARTS
from client_app.policy import read_policy, require_allowed
from client_app.rounds import Deadline
from client_app.runtime import Runtime, open_runtime, read_configuration, stranger
from client_app.site import name_for_files
from client_app.site_log import SiteLog
from fedrsclip_core.errors import ConfigError, WireError
from fedrsclip_core.wire.digests import code_digest
from fedrsclip_core.wire.messages import ClientFailure, FailureCode, RoundRequest
from fedrsclip_core.wire.records import (
    pack_identity,
    pack_init,
    pack_round_reply,
    unpack_configuration,
    unpack_query,
    unpack_round_request,
    unpack_run,
)

app = ClientApp()

NodeConfig = Mapping[str, object]
Handler = Callable[[Message, NodeConfig, SiteLog], RecordDict]
_OTHER_CODE = "the server runs other code than this site: install the same version at both"


def guarded(handler: Handler) -> Callable[[Message, Context], Message]:
    """Turn whatever ``handler`` raises into a :class:`ClientFailure`.

    Flower copies an exception's text into the reply and prints it at the server. So the sentence
    and the traceback go to the site's log, and a code of a closed list goes out.
    """

    @wraps(handler)
    def guard(message: Message, context: Context) -> Message:
        log = SiteLog(name_for_files(context.node_config))
        failure: FailureCode
        try:
            return Message(handler(message, context.node_config, log), reply_to=message)
        except Exception as error:
            failure = code_of(error)
            log.failure(message.metadata.message_type, error)
        # Outside the except block, so that the new exception carries no context either.
        raise ClientFailure(failure)

    return guard


@app.query("identity")
@guarded
def identity(message: Message, node_config: NodeConfig, log: SiteLog) -> RecordDict:
    """Say who this client is and what it runs; encodes nothing.

    To a server that runs other code it says no more than that: nothing of images or model.
    """
    if not _is_our_code(message):
        log.write(f"the server will refuse this client: {_OTHER_CODE}")
        return pack_identity(stranger(node_config))
    return pack_identity(_runtime(message, node_config).identity())


@app.query("prepare")
@guarded
def prepare(message: Message, node_config: NodeConfig, log: SiteLog) -> RecordDict:
    """Encode the images that have no features yet, and try what training will need."""
    _refuse_other_code(message)
    runtime = _runtime(message, node_config)
    make_repeatable(runtime.config.optimizer.threads)
    for part in PARTS:
        found = runtime.features(part, log)
        log.write(f"{part}: features of {len(found)} images are ready")
    _ = runtime.text
    if runtime.config.prompt.has_private:
        rounds.start_state(runtime, log)
    return pack_identity(runtime.identity(label_counts=True))


@app.query("init")
@guarded
def init(message: Message, node_config: NodeConfig, log: SiteLog) -> RecordDict:
    """Compute the shared prompt's start from the public weights."""
    _refuse_other_code(message)
    runtime = _runtime(message, node_config)
    prompt = runtime.config.prompt
    if not prompt.shared:
        raise WireError("the server asks for a shared prompt but the method has none")
    return pack_init(runtime.start_prompt(prompt.shared_init, "shared", runtime.config.seed))


@app.train()
@guarded
def train(message: Message, node_config: NodeConfig, log: SiteLog) -> RecordDict:
    """Evaluate what is shared as it arrived, train, store what is private, reply."""
    deadline = Deadline.of(message.metadata)
    runtime = _runtime(message, node_config)
    make_repeatable(runtime.config.optimizer.threads)
    request = _request(message, runtime)
    reply = rounds.train(runtime, request, deadline, log)
    prompt = runtime.config.prompt
    return pack_round_reply(
        reply, with_arrays=prompt.has_shared, offsets_dtype=prompt.shared_offsets_dtype
    )


@app.evaluate()
@guarded
def evaluate(message: Message, node_config: NodeConfig, log: SiteLog) -> RecordDict:
    """Evaluate what is shared as it arrived with what is private as stored."""
    runtime = _runtime(message, node_config)
    make_repeatable(runtime.config.optimizer.threads)
    request = _request(message, runtime)
    Deadline.of(message.metadata).check("before the evaluation")
    reply = rounds.evaluate(runtime, request, log)
    return pack_round_reply(reply, with_arrays=False)


def _runtime(message: Message, node_config: NodeConfig) -> Runtime:
    """Open what a message needs, if this site lets its run run."""
    configuration = unpack_configuration(message.content)
    run_name, server_round = unpack_run(message.content)
    config, now = read_configuration(configuration), datetime.now()
    require_allowed(read_policy(), config, run_name, server_round, now)
    return open_runtime(node_config, configuration)


def _request(message: Message, runtime: Runtime) -> RoundRequest:
    dtype = runtime.config.prompt.shared_offsets_dtype
    return unpack_round_request(message.content, runtime.shared_shapes, dtype)


def _refuse_other_code(message: Message) -> None:
    if not _is_our_code(message):
        raise ConfigError(_OTHER_CODE)


def _is_our_code(message: Message) -> bool:
    _, code = unpack_query(message.content)
    return code == code_digest()
