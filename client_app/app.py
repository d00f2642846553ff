"""The ClientApp: thin handlers, and the guard that lets no sentence leave the site."""

from collections.abc import Callable, Mapping
from functools import wraps

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app import rounds
from client_app.encoders import make_repeatable
from client_app.failures import code_of
from client_app.features import PARTS
from client_app.rounds import Deadline
from client_app.runtime import Runtime, open_runtime
from client_app.site import client_name
from client_app.site_log import SiteLog
from fedrsclip_core.errors import ConfigError, WireError
from fedrsclip_core.wire.digests import code_digest
from fedrsclip_core.wire.messages import ClientFailure, FailureCode
from fedrsclip_core.wire.records import (
    pack_identity,
    pack_init,
    pack_round_reply,
    unpack_identity_request,
    unpack_round_request,
)

app = ClientApp()

Handler = Callable[[Message, Runtime, SiteLog], RecordDict]


def guarded(handler: Handler) -> Callable[[Message, Context], Message]:
    """Give ``handler`` its runtime, and turn whatever it raises into a :class:`ClientFailure`.

    Flower copies an exception's text into the reply and prints it at the server. So the sentence
    and the traceback go to the site's log, and a code of a closed list goes out.
    """

    @wraps(handler)
    def guard(message: Message, context: Context) -> Message:
        log = SiteLog(_log_name(context.node_config))
        failure: FailureCode
        try:
            runtime = open_runtime(context.node_config, context.run_config)
            return Message(handler(message, runtime, log), reply_to=message)
        except Exception as error:
            failure = code_of(error)
            log.failure(message.metadata.message_type, error)
        # Outside the except block, so that the new exception carries no context either.
        raise ClientFailure(failure)

    return guard


@app.query("identity")
@guarded
def identity(message: Message, runtime: Runtime, log: SiteLog) -> RecordDict:
    """Say who this client is and what it runs; encodes nothing.

    To a server that runs something else it says no more than that: nothing of images or model.
    """
    _, code, config = unpack_identity_request(message.content)
    differences = _differences(runtime, code, config)
    if differences:
        log.write(f"the server will refuse this client: {differences}")
        return pack_identity(runtime.mere_identity())
    return pack_identity(runtime.identity())


@app.query("prepare")
@guarded
def prepare(message: Message, runtime: Runtime, log: SiteLog) -> RecordDict:
    """Encode the images that have no features yet, and try what training will need."""
    _refuse_others(message, runtime)
    make_repeatable(runtime.config.optimizer.threads)
    for part in PARTS:
        found = runtime.features(part, log)
        log.write(f"{part}: features of {len(found)} images are ready")
    _ = runtime.text
    if runtime.config.prompt.private:
        rounds.start_state(runtime, log)
    return pack_identity(runtime.identity(label_counts=True))


@app.query("init")
@guarded
def init(message: Message, runtime: Runtime, log: SiteLog) -> RecordDict:
    """Compute the shared prompt's start from the public weights."""
    _refuse_others(message, runtime)
    prompt = runtime.config.prompt
    if not prompt.shared:
        raise WireError("the server asks for a shared prompt but the method has none")
    return pack_init(runtime.start_prompt(prompt.shared_init, "shared", runtime.config.seed))


@app.train()
@guarded
def train(message: Message, runtime: Runtime, log: SiteLog) -> RecordDict:
    """Evaluate the received shared prompt, train, store the private prompt, reply."""
    deadline = Deadline.of(message.metadata)
    make_repeatable(runtime.config.optimizer.threads)
    request = unpack_round_request(message.content, runtime.shared_shape)
    reply = rounds.train(runtime, request, deadline, log)
    return pack_round_reply(reply, with_arrays=runtime.config.prompt.shared)


@app.evaluate()
@guarded
def evaluate(message: Message, runtime: Runtime, log: SiteLog) -> RecordDict:
    """Evaluate the received shared prompt with the stored private one."""
    make_repeatable(runtime.config.optimizer.threads)
    request = unpack_round_request(message.content, runtime.shared_shape)
    Deadline.of(message.metadata).check("before the evaluation")
    reply = rounds.evaluate(runtime, request, log)
    return pack_round_reply(reply, with_arrays=False)


def _refuse_others(message: Message, runtime: Runtime) -> None:
    _, code, config = unpack_identity_request(message.content)
    differences = _differences(runtime, code, config)
    if differences:
        raise ConfigError(differences)


def _differences(runtime: Runtime, code: str, config: str) -> str:
    if code != code_digest():
        return "it runs other code than this site: install the same version at both"
    if config != runtime.config_digest:
        return "it composed another configuration than this site from the same submission"
    return ""


def _log_name(node_config: Mapping[str, object]) -> str:
    try:
        return client_name(node_config)
    except ConfigError:
        return "client-without-name"
