"""The round loop: what is sent, what may be aggregated, when a run has to end."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence

from flwr.app import Message

from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import Shapes, SharedTensors
from fedrsclip_core.errors import RunError, WireError
from fedrsclip_core.runs.records import RoundRecord
from fedrsclip_core.wire.messages import EVALUATE, TRAIN, RoundReply, RoundRequest
from fedrsclip_core.wire.precision import num_bytes
from fedrsclip_core.wire.records import pack_round_request, unpack_round_reply
from server_app import metrics
from server_app.admission import Client, Standard
from server_app.aggregation import Aggregator, build
from server_app.exchange import Exchange, Reply, new_messages
from server_app.influence import Limits
from server_app.newcomers import Newcomers
from server_app.patience import FINETUNE, Patience
from server_app.phase import (
    Phase,
    Progress,
    add_out_of_step,
    add_traffic,
    new_record,
    trained,
)
from server_app.replies import check_reply
from server_app.sampling import sample

_AFTER_A_FAILURE = 10.0
"""Seconds: sites that come and go must not use up ``federation.max_failed_rounds`` at once."""


class SharedPromptStrategy:
    """Federated rounds on what is shared, with one of Flower's aggregators inside.

    Only checked replies, in partition order and reduced to the shared tensors and their weight,
    reach the aggregator. Round r's aggregate is evaluated by the clients at the start of the next
    train message; a separate evaluation follows every ``federation.eval_every`` rounds if not all
    clients take part, and at the end.

    Parameters
    ----------
    exchange : Exchange
        Sends and receives.
    clients : Sequence[Client]
        The federation in partition order.
    config : Config
        The run's configuration.
    standard : Standard
        What a client that returns under another node id is compared with.
    newcomers : Newcomers
        Knows who returns or joins.
    on_clients : Callable[[Sequence[Client]], None]
        Receives the clients when they have become more.
    on_record : Callable[[RoundRecord], None]
        Receives each round's record once its evaluation is known.
    on_progress : Callable[[Progress], None]
        Receives the state after each round.
    echo : Callable[[str], None]
        Receives lines for a person.
    """

    def __init__(
        self,
        exchange: Exchange,
        clients: Sequence[Client],
        config: Config,
        standard: Standard,
        *,
        newcomers: Newcomers,
        on_clients: Callable[[Sequence[Client]], None],
        on_record: Callable[[RoundRecord], None],
        on_progress: Callable[[Progress], None],
        echo: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._clients = tuple(clients)
        self._config = config
        self._standard = standard
        self._newcomers = newcomers
        self._on_clients = on_clients
        self._patience = Patience(
            config.federation.round_timeout,
            config.federation.min_replies,
            simulation=standard.simulation,
        )
        self._on_record = on_record
        self._on_progress = on_progress
        self._echo = echo
        self._aggregator = Aggregator(build(config.strategy)) if config.prompt.has_shared else None
        self._limits = Limits.of(config.strategy, simulation=standard.simulation)
        self._offsets_dtype = config.prompt.shared_offsets_dtype
        self._open: RoundRecord | None = None
        self._failed_rounds = 0
        self.final: Phase | None = None

    def run(self, shared: SharedTensors) -> SharedTensors:
        """Evaluate the start, run all rounds and evaluate the end.

        Parameters
        ----------
        shared : SharedTensors
            Its start; empty where the method shares nothing.

        Returns
        -------
        SharedTensors
            What is shared after the last round.

        Raises
        ------
        RunError
            If ``federation.max_failed_rounds`` rounds in a row had fewer than
            ``federation.min_replies`` valid replies, or an evaluation of the start or end had.
        """
        self._open = new_record(0)
        try:
            self._evaluate_all(0, shared, final=self._config.federation.num_rounds == 0)
        finally:
            self._close()
        self._report(0, shared)
        return self._rounds(0, shared)

    def resume(self, progress: Progress) -> SharedTensors:
        """Go on after the round of ``progress``; the same as if nothing had happened.

        Returns and raises what :meth:`run` does.
        """
        self._open = None if progress.record is None else copy.deepcopy(progress.record)
        self._failed_rounds = progress.failed_rounds
        self._patience.restore(progress.reply_seconds)
        if self._aggregator is not None:
            self._aggregator.restore(progress.aggregator)
        return self._rounds(progress.server_round, progress.shared)

    def _rounds(self, done: int, shared: SharedTensors) -> SharedTensors:
        """Run the rounds after ``done`` and evaluate the end."""
        num_rounds = self._config.federation.num_rounds
        try:
            for server_round in range(done + 1, num_rounds + 1):
                self._evaluate_if_due(server_round - 1, shared)
                shared = self._round(server_round, shared)
            if num_rounds:
                self._evaluate_all(num_rounds, shared, final=True)
        finally:
            self._close()
        return shared

    def _round(self, server_round: int, shared: SharedTensors) -> SharedTensors:
        chosen = self._chosen(server_round)
        phase = self._exchange_round(TRAIN, server_round, shared, chosen)
        if self._open is not None and phase.valid:
            self._open = {**self._open, **metrics.accuracies(phase.valid, len(self._clients))}
        self._close()
        self._open = trained(new_record(server_round), phase)
        shared = self._aggregated(server_round, shared, phase)
        self._report(server_round, shared)
        if self._failed_rounds >= self._config.federation.max_failed_rounds:
            raise RunError(
                f"{self._failed_rounds} rounds in a row failed, the last one, round "
                f"{server_round}: {self._open['failure']}"
            )
        if self._failed_rounds and not self._standard.simulation:
            self._exchange.pause(_AFTER_A_FAILURE)
        return shared

    def _report(self, server_round: int, shared: SharedTensors) -> None:
        aggregator = self._aggregator
        state = {} if aggregator is None else aggregator.state()
        record = copy.deepcopy(self._open)
        self._on_progress(
            Progress(
                server_round, shared, record, self._failed_rounds, state, self._patience.state()
            )
        )

    def _evaluate_if_due(self, server_round: int, shared: SharedTensors) -> None:
        """Let all clients evaluate a past round, where a round asks only some of them."""
        federation = self._config.federation
        due = federation.fraction_train < 1 and server_round % federation.eval_every == 0
        if due and self._open is not None:
            self._evaluate_all(server_round, shared, final=False)
            self._close()

    def _chosen(self, server_round: int) -> list[Client]:
        free = self._free_nodes()
        by_partition = {client.partition_id: client for client in self._clients}
        chosen = sample(
            list(by_partition),
            self._config.federation.fraction_train,
            seed=self._config.seed,
            server_round=server_round,
            available=[p for p, client in by_partition.items() if client.node_id in free],
            minimum=self._config.federation.min_replies,
        )
        return [by_partition[partition] for partition in chosen]

    def _free_nodes(self) -> set[int]:
        federation = self._config.federation
        before = len(self._clients)
        self._clients, free = self._newcomers.wait_for(
            self._clients, federation.min_replies, federation.round_timeout
        )
        if len(self._clients) > before:
            self._on_clients(self._clients)
        return free

    def _aggregated(self, server_round: int, shared: SharedTensors, phase: Phase) -> SharedTensors:
        """Return what is shared next, or the old if the round failed."""
        assert self._open is not None
        failure = self._too_few(phase)
        if not failure and self._aggregator is not None:
            try:
                contributions, notes = self._limits.contributions(phase.valid, shared)
                for note in notes:
                    self._echo(f"round {server_round}: {note}")
                shared = self._aggregator.aggregate(server_round, contributions, _shapes(shared))
            except RunError as error:
                failure = str(error)
        self._open["failure"] = failure
        self._failed_rounds = self._failed_rounds + 1 if failure else 0
        if failure:
            self._echo(f"round {server_round} failed: {failure}")
        return shared

    def _evaluate_all(self, server_round: int, shared: SharedTensors, *, final: bool) -> None:
        """Let all clients evaluate; the figures enter the open record."""
        assert self._open is not None
        free = self._free_nodes()
        everyone = [client for client in self._clients if client.node_id in free]
        phase = self._exchange_round(EVALUATE, server_round, shared, everyone, final=final)
        failure = self._too_few(phase)
        if failure and (final or server_round == 0):
            raise RunError(f"the evaluation of round {server_round} failed: {failure}")
        if phase.valid:
            self._open = {**self._open, **metrics.accuracies(phase.valid, len(self._clients))}
        self._open["eval_seconds"] = phase.seconds
        self._open["eval_dropped"] = dict(phase.dropped)
        self._open["final"] = final
        add_out_of_step(self._open, phase)
        add_traffic(self._open["bytes"], phase)
        if final:
            self.final = phase

    def _too_few(self, phase: Phase) -> str:
        needed = self._config.federation.min_replies
        if len(phase.valid) >= needed:
            return ""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in phase.dropped.items())
        return (
            f"{len(phase.valid)} valid replies from {len(phase.asked)} clients, "
            f"federation.min_replies is {needed}" + (f" ({reasons})" if reasons else "")
        )

    def _exchange_round(
        self,
        message_type: str,
        server_round: int,
        shared: SharedTensors,
        clients: Sequence[Client],
        *,
        final: bool = False,
    ) -> Phase:
        """Ask ``clients`` and check what they reply."""
        start = self._exchange.now()
        timeout = self._config.federation.round_timeout
        messages = self._messages(message_type, server_round, shared, clients, final)
        finetunes = final and self._config.prompt.finetune_epochs > 0
        kind = FINETUNE if finetunes else message_type
        waits = self._patience.waits(kind, clients)
        needed = self._config.federation.min_replies
        replies = self._exchange.ask(messages, timeout, waits=waits, needed=needed)
        out_of_step = self._strays(server_round)
        shapes = _shapes(shared) if message_type == TRAIN else {}
        seconds = self._exchange.now() - start
        valid: dict[str, RoundReply] = {}
        dropped: dict[str, str] = {}
        for client in clients:
            reply = replies[client.node_id]
            if note := self._patience.learn(kind, client, reply):
                self._echo(note)
            if reply.content is None:
                dropped[client.name] = reply.reason
                continue
            try:
                checked = unpack_round_reply(reply.content, shapes, self._offsets_dtype)
                check_reply(checked, client, message_type, self._config, seconds, final=final)
                valid[client.name] = checked
            except WireError as error:
                dropped[client.name] = f"bad-reply: {error}"
        for name, reason in dropped.items():
            self._echo(f"round {server_round}: dropped client {name} ({reason})")
        size = num_bytes(_shapes(shared), self._offsets_dtype)
        return Phase(
            asked=tuple(clients),
            valid=valid,
            dropped=dropped,
            seconds=seconds,
            traffic={c.name: _traffic(replies[c.node_id]) for c in clients},
            payload=(len(clients) * size, len(valid) * size if shapes else 0),
            out_of_step=out_of_step,
        )

    def _strays(self, server_round: int) -> dict[str, int]:
        """Name and count the replies that were dropped because they are out of step."""
        clients = {client.node_id: client for client in self._clients}
        counts = Counter[str]()
        for stray in self._exchange.strays():
            client = clients.get(stray.node_id)
            if client is None:
                continue
            counts[client.name] += 1
            why = "it answers no open message"
            if stray.seconds is not None:
                why = f"it came after {stray.seconds:.0f} s, its round is over"
                self._patience.learn_late(stray.message_type, client, stray.seconds)
            self._echo(f"round {server_round}: dropped a reply of client {client.name} ({why})")
        return dict(counts)

    def _messages(
        self,
        message_type: str,
        server_round: int,
        shared: SharedTensors,
        clients: Sequence[Client],
        final: bool,
    ) -> list[Message]:
        nodes = [client.node_id for client in clients]
        proximal_mu = 0.0
        if message_type == TRAIN and self._aggregator is not None and nodes:
            proximal_mu = self._aggregator.configure(
                server_round, shared, nodes, self._exchange.grid
            )
        request = RoundRequest(server_round, self._standard.run_name, shared, final, proximal_mu)
        content = pack_round_request(request, self._standard.configuration, self._offsets_dtype)
        return new_messages(content, nodes, message_type)

    def _close(self) -> None:
        """Hand on the open record; its evaluation is known by now, or never will be."""
        record, self._open = self._open, None
        if record is not None:
            self._on_record(record)


def _traffic(reply: Reply) -> tuple[int, int]:
    return reply.bytes_down, reply.bytes_up


def _shapes(shared: SharedTensors) -> Shapes:
    return {name: (len(tensor), tensor.shape[1]) for name, tensor in shared.items()}
