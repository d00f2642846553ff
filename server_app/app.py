"""The server's part of a run: configuration, clients, rounds, results."""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrsclip_core import machine
from fedrsclip_core.config.compose import OVERRIDES_KEY, from_run_config, to_yaml
from fedrsclip_core.config.resolved import to_json
from fedrsclip_core.config.schema import Config
from fedrsclip_core.config.shared_tensors import SharedTensors
from fedrsclip_core.errors import FedRSCLIPError, RunError
from fedrsclip_core.printable import printable_lines
from fedrsclip_core.runs import lines
from fedrsclip_core.runs.records import Results, RoundRecord
from fedrsclip_core.runs.run_folder import STOPPED, RunFolder
from fedrsclip_core.runs.shared_prompt import write_shared_prompt
from fedrsclip_core.wire import digests
from fedrsclip_core.wire.precision import what_travels
from server_app import results, roster
from server_app.admission import Client, Standard
from server_app.attempts import Attempt, Echo, begun_digests, keep_digests, open_attempt
from server_app.checkpoint import Checkpoint, write_checkpoint
from server_app.exchange import Exchange
from server_app.flower_internals import called_at_exit, is_simulation
from server_app.influence import Limits
from server_app.newcomers import Newcomers
from server_app.phase import Progress
from server_app.registry import registry_of_server
from server_app.results import RunState
from server_app.room import Room
from server_app.roster import Roster
from server_app.start import initial_shared, shapes_of
from server_app.strategy import SharedPromptStrategy
from server_app.tensorboard import event_writer

app = ServerApp()

_LEAST_AT_ONCE, _AT_ONCE_PER_PROCESS = 16, 4
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@dataclass(frozen=True)
class RunOutcome:
    """A completed run: its folder, its summary and, if it was trained now, what is shared."""

    folder: Path
    results: Results
    shared: SharedTensors = field(default_factory=dict)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what the submitted configuration describes."""
    try:
        config = from_run_config(context.run_config, simulation=is_simulation(grid))
        overrides = str(context.run_config.get(OVERRIDES_KEY, ""))
        run(exchange_of(grid), config, run_id=context.run_id, overrides=overrides)
    except FedRSCLIPError as error:
        print(f"error: {printable_lines(str(error))}", flush=True)
        # Flower marks the run as failed and prints this exception: one sentence, no chain.
        raise error.with_traceback(None) from None


def exchange_of(
    grid: Grid, *, processes: int | None = None, wait: Callable[[float], None] = time.sleep
) -> Exchange:
    """Send to all sites at once; to simulated clients as many as keep their processes busy.

    Parameters
    ----------
    grid : Grid
        Flower's grid.
    processes : int, optional
        Of simulated clients; without it, one for each CPU.
    wait : Callable[[float], None]
        Waits for some seconds, or less if there is a reply.
    """
    busy = max(_LEAST_AT_ONCE, _AT_ONCE_PER_PROCESS * (processes or machine.available_cpus()))
    return Exchange(grid, sleep=wait, at_once=busy if is_simulation(grid) else None)


def run(
    exchange: Exchange,
    config: Config,
    *,
    run_id: int,
    overrides: str = "",
    echo: Callable[[str], None] = lambda line: print(line, flush=True),
) -> RunOutcome:
    """Carry out one run, or the rest of one, and leave its folder.

    Parameters
    ----------
    exchange : Exchange
        Over Flower's grid, in a simulation or a deployment; its clock is the run's.
    config : Config
        The run's configuration.
    run_id : int
        Flower's run id; names the run if ``run.name`` is not set.
    overrides : str
        What was submitted, to be kept with the run.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    RunError
        If the federation cannot start or go on; ``results.json`` then holds the same sentence.
    """

    def say(text: str) -> None:
        echo(printable_lines(text))

    try:
        with open_attempt(config, run_id, overrides, say) as attempt:
            if attempt.finished is not None:
                say(f"run {attempt.folder.name} is completed: {attempt.folder.path}")
                return RunOutcome(attempt.folder.path, attempt.finished)
            return _carry_out(exchange, config, attempt, say)
    except OSError as error:
        raise _as_run_error(error) from None


def _carry_out(exchange: Exchange, config: Config, attempt: Attempt, echo: Echo) -> RunOutcome:
    state = RunState(config, attempt.folder.name, records=attempt.records)
    folder = attempt.folder
    folder.write_config(to_yaml(config, site_keys=False))
    ending = _Ending(folder, state, attempt.seconds, echo, exchange.now)
    with called_at_exit(ending.stop):
        try:
            _federate(exchange, state, attempt, ending.seconds, echo)
            summary = ending.write(None)
        except BaseException as error:
            failure = _as_run_error(error)
            try:
                ending.write(_reason(failure))
            except OSError as unwritten:
                echo(f"the results of the failed run were not written ({unwritten.strerror})")
            if failure is error:
                raise
            raise failure from None
    echo(f"results: {folder.path}")
    return RunOutcome(folder.path, summary, state.shared)


def _federate(
    exchange: Exchange,
    state: RunState,
    attempt: Attempt,
    seconds: Callable[[], float],
    echo: Echo,
) -> None:
    config, federation, folder = state.config, state.config.federation, attempt.folder
    write_event = event_writer(config.run, folder.path, attempt.records)
    simulation = is_simulation(exchange.grid)
    state.own_digests = {
        "code": digests.code_digest(),
        "config": digests.config_digest(config),
    }
    standard = Standard(
        run_name=state.run_name,
        n_ctx=config.prompt.n_ctx,
        configuration=to_json(config),
        simulation=simulation,
        registry=None if simulation else registry_of_server(),
        begun=begun_digests(folder, attempt.checkpoint),
        **state.own_digests,
    )
    call = roster.RollCall(exchange, config, standard, echo)
    if simulation:
        nodes = roster.wait_for_nodes(exchange, config, echo=echo)
        state.roster = roster.identify(exchange, nodes, standard, federation.connect_timeout, echo)
        # The images are dealt to all nodes: with one less it describes other data.
        needed = len(nodes)
        roster.require(state.roster, needed)
    else:
        needed = roster.quorum(federation)
        state.roster = call.take()
    echo(f"{len(state.roster.clients)} clients: preparing their image features")
    resumed = attempt.checkpoint is not None and not simulation
    state.roster, absent = roster.prepare(
        exchange,
        state.roster,
        standard,
        federation.prepare_timeout,
        echo,
        needed=needed,
        resumed=resumed,
    )
    for name, reason in state.roster.refused.items():
        echo(f"client {name} is refused: {reason}")
    roster.require(state.roster, needed)
    clients = state.roster.clients
    shapes = shapes_of(config, clients[0].identity)
    echo(what_travels(shapes, config.prompt.shared_offsets_dtype))
    if attempt.checkpoint is None:
        state.shared, odd = initial_shared(exchange, clients, config, standard, needed=needed)
        state.roster = state.roster.without(odd)
        for name, reason in odd.items():
            echo(f"client {name} is refused: {reason}")
        roster.require(state.roster, needed)
        clients = state.roster.clients
    room = Room(exchange, 0 if simulation else federation.connect_timeout, echo)
    counts = [(c.identity.num_train, c.identity.num_val, c.identity.num_test) for c in clients]
    train, val, test = (sum(column) for column in zip(*counts, strict=True))
    echo(f"images: {train} train, {val} val, {test} test")
    keep_digests(folder, standard.begun, state.digests(), echo)
    if not simulation:
        for doubt in Limits.of(config.strategy, simulation=simulation).doubts(clients):
            echo(f"warning: {doubt}")

    def on_record(record: RoundRecord) -> None:
        state.records.append(record)
        room.write(lambda: folder.append_round(record))
        room.write(lambda: write_event(record))
        echo(lines.round_line(record))

    def on_progress(progress: Progress) -> None:
        state.shared, state.server_round = progress.shared, progress.server_round
        room.write(lambda: _write_shared_prompt(folder, state))
        checkpoint = Checkpoint(progress, folder.rounds_size(), seconds())
        room.write(lambda: write_checkpoint(folder, checkpoint))

    def on_clients(now_there: Sequence[Client]) -> None:
        names = {client.name for client in now_there}
        refused = {n: why for n, why in state.roster.refused.items() if n not in names}
        state.roster = Roster(tuple(now_there), refused)

    newcomers = Newcomers(
        exchange,
        standard,
        federation.num_clients,
        echo,
        seen=set(call.answers) - absent,
        pending=call.pending,
    )
    strategy = SharedPromptStrategy(
        exchange,
        clients,
        config,
        standard,
        newcomers=newcomers,
        on_clients=on_clients,
        on_record=on_record,
        on_progress=on_progress,
        echo=echo,
    )
    if attempt.checkpoint is None:
        strategy.run(state.shared)
    else:
        progress = attempt.checkpoint.progress
        state.shared, state.server_round = progress.shared, progress.server_round
        strategy.resume(progress)
    state.final = strategy.final


def _write_shared_prompt(folder: RunFolder, state: RunState) -> None:
    prompt = results.shared_prompt(state)
    if prompt is not None:
        write_shared_prompt(folder.shared_prompt, prompt)


class _Ending:
    """Writes how a run ended, once: the first to know decides."""

    def __init__(
        self,
        folder: RunFolder,
        state: RunState,
        seconds: float,
        echo: Echo,
        now: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._state = state
        self._echo = echo
        self._now = now
        self._start = now() - seconds
        self._lock = threading.RLock()  # a signal may arrive while the same thread writes
        self._written: Results | None = None

    def seconds(self) -> float:
        """Return the seconds that the run has taken, earlier attempts included."""
        return self._now() - self._start

    def write(self, reason: str | None) -> Results:
        """Write what there is; ``results.json`` comes last, as a sign that all is there."""
        with self._lock:
            if self._written is None:
                self._written = self._write(reason)
            return self._written

    def stop(self) -> None:
        """Write that the run was stopped, unless it has ended."""
        self.write(STOPPED)

    def _write(self, reason: str | None) -> Results:
        folder, state = self._folder, self._state
        _write_shared_prompt(folder, state)
        state.seconds = self.seconds()
        summary = results.summary(state, reason=reason)
        if state.records and reason != STOPPED:
            self._echo(lines.final_table(summary))
        folder.write_results(summary)
        return summary


def _as_run_error(error: BaseException) -> BaseException:
    """Put a full or read-only disk into a sentence."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return RunError(
            f"the run's folder cannot be written ({error.strerror}): free some space there, then "
            "resume the run by run.resume=true; or start over with another FEDRSCLIP_HOME"
        )
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, FedRSCLIPError):
        return str(error)
    if not isinstance(error, Exception):  # an interrupt, or Flower's own sign that it was stopped
        return STOPPED
    return f"an internal error of the server ({type(error).__name__}): see the run's log"
