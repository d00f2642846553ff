"""The server's part of a run: configuration, clients, rounds, results."""

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.constant import TaskType
from flwr.supercore.exit import add_exit_handler

from fedrsclip_core import digests, fileio, report
from fedrsclip_core.config import from_run_config
from fedrsclip_core.errors import FedRSCLIPError, RunError
from fedrsclip_core.schema import Config
from server_app import checkpoint, pictures, results, roster
from server_app.admission import Standard
from server_app.exchange import Exchange
from server_app.phase import Record
from server_app.results import Results, RunState
from server_app.start import initial_shared
from server_app.strategy import Prompt, SharedPromptStrategy

app = ServerApp()

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@dataclass(frozen=True)
class RunOutcome:
    """A completed run: its folder, its summary and the last shared prompt."""

    folder: Path
    results: Results
    shared: Prompt


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what the submitted configuration describes."""
    try:
        config = from_run_config(context.run_config)
        run(grid, config, run_id=context.run_id)
    except FedRSCLIPError as error:
        print(f"error: {error}", flush=True)
        # Flower marks the run as failed and prints this exception: one sentence, no chain.
        raise error.with_traceback(None) from None


def run(
    grid: Grid,
    config: Config,
    *,
    run_id: int,
    echo: Callable[[str], None] = lambda line: print(line, flush=True),
) -> RunOutcome:
    """Carry out one run and leave its folder.

    Parameters
    ----------
    grid : Grid
        Flower's grid, in a simulation or a deployment.
    config : Config
        The run's configuration.
    run_id : int
        Flower's run id; names the run if ``run.name`` is not set.
    echo : Callable[[str], None]
        Receives lines for a person.

    Raises
    ------
    RunError
        If the federation cannot start or go on; ``results.json`` then holds the same sentence.
    """
    state = RunState(config, config.run.name or f"run-{run_id}")
    folder = results.create_folder(state.run_name)
    results.write_config(folder, config)
    ending = _Ending(folder, state, echo)
    # In a simulation this is not the main thread: a signal never arrives here.
    add_exit_handler(ending.stop, run_before_force_exit=True)
    try:
        _federate(Exchange(grid), state, folder, echo)
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
    echo(f"figures and pictures: {folder}")
    return RunOutcome(folder, summary, state.shared)


def _federate(
    exchange: Exchange, state: RunState, folder: Path, echo: Callable[[str], None]
) -> None:
    config, federation = state.config, state.config.federation
    simulation = exchange.grid.run.primary_task_type == TaskType.SIMULATION
    state.own_digests = {
        "code": digests.code_digest(),
        "config": digests.config_digest(config),
    }
    standard = Standard(
        run_name=state.run_name,
        n_ctx=config.prompt.n_ctx,
        simulation=simulation,
        **state.own_digests,
    )
    nodes = roster.wait_for_nodes(exchange, config, simulation=simulation, echo=echo)
    state.roster = roster.identify(exchange, nodes, standard, federation.connect_timeout)
    # A simulation has dealt the images to all of its nodes: with one less it describes other data.
    needed = len(nodes) if simulation else federation.min_clients
    roster.require(state.roster, needed)
    echo(f"{len(state.roster.clients)} clients: preparing their image features")
    state.roster = roster.prepare(
        exchange, state.roster, standard, federation.prepare_timeout, echo
    )
    for name, reason in state.roster.refused.items():
        echo(f"client {name} is refused: {reason}")
    roster.require(state.roster, needed)
    clients = state.roster.clients
    counts = [(c.identity.num_train, c.identity.num_val, c.identity.num_test) for c in clients]
    train, val, test = (sum(column) for column in zip(*counts, strict=True))
    echo(f"images: {train} train, {val} val, {test} test")
    fileio.write_json(folder / "digests.json", state.digests())
    pictures.attempt(pictures.draw_partition, folder / "partition.png", state, echo)
    state.shared = initial_shared(exchange, clients, config, standard)

    def on_record(record: Record) -> None:
        state.records.append(record)
        results.append_record(folder, record)
        echo(report.round_line(record))

    def on_prompt(server_round: int, shared: Prompt) -> None:
        state.shared, state.server_round = shared, server_round
        checkpoint.write_checkpoint(folder / "checkpoint", state)

    strategy = SharedPromptStrategy(
        exchange,
        clients,
        config,
        standard,
        on_record=on_record,
        on_prompt=on_prompt,
        echo=echo,
    )
    strategy.run(state.shared)
    state.final = strategy.final


class _Ending:
    """Writes how a run ended, once: the first to know decides."""

    def __init__(self, folder: Path, state: RunState, echo: Callable[[str], None]) -> None:
        self._folder = folder
        self._state = state
        self._echo = echo
        self._start = time.monotonic()
        self._lock = threading.RLock()  # a signal may arrive while the same thread writes
        self._written: Results | None = None

    def write(self, reason: str | None) -> Results:
        """Write what there is; ``results.json`` comes last, as a sign that all is there."""
        with self._lock:
            if self._written is None:
                self._written = self._write(reason)
            return self._written

    def stop(self) -> None:
        """Write that the run was stopped, unless it has ended."""
        self.write(report.STOPPED)

    def _write(self, reason: str | None) -> Results:
        folder, state = self._folder, self._state
        checkpoint.write_shared_prompt(folder / "shared_prompt.safetensors", state)
        seconds = time.monotonic() - self._start
        summary = results.summary(state, reason=reason, seconds=seconds)
        # Whoever stops a run kills it a moment later: no time for pictures then.
        if state.records and reason != report.STOPPED:
            pictures.attempt(pictures.draw_accuracy, folder / "accuracy.png", state, self._echo)
            self._echo(report.final_table(summary))
        fileio.write_json(folder / "results.json", summary)
        return summary


def _as_run_error(error: BaseException) -> BaseException:
    """Put a full or read-only disk into a sentence."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return RunError(
            f"the run's folder cannot be written ({error.strerror}): free some space there, or "
            "point FEDRSCLIP_HOME elsewhere, and start the run again under another run.name"
        )
    return error


def _reason(error: BaseException) -> str:
    if isinstance(error, FedRSCLIPError):
        return str(error)
    if not isinstance(error, Exception):  # an interrupt, or Flower's own sign that it was stopped
        return report.STOPPED
    return f"an internal error of the server ({type(error).__name__}): see the run's log"
