"""Which cell is next, for engines that ask for it; and workers in threads that do."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Queue

from fedrsclip.bench.cells import Cell


@dataclass(frozen=True)
class Job:
    """A cell to be run.

    Attributes
    ----------
    cell : Cell
        The cell.
    images : Hashable
        Names images and encoder. Of the jobs with equal ones the first encodes for all.
    """

    cell: Cell
    images: Hashable


@dataclass(frozen=True)
class Done:
    """A job that has ended; ``error`` is empty if its cell is completed."""

    job: Job
    error: str
    seconds: float


@dataclass
class Schedule:
    """The jobs still to do.

    A job waits while another one encodes its images, and for the cell that it builds on. ``failed``
    names the cells on which none can build; those of earlier calls are given.
    """

    jobs: Sequence[Job]
    failed: set[str] = field(default_factory=set)
    _encoding: set[Hashable] = field(default_factory=set)
    _encoded: set[Hashable] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._left = list(self.jobs)
        self._open = {job.cell.name for job in self.jobs}

    def take(self) -> Job | None:
        """Return the next job, waiting for one; ``None`` when there is none left."""
        with self._changed:
            while self._left and not self._stopped:
                if (job := self.next_free()) is not None:
                    return job
                self._changed.wait()
            return None

    def next_free(self) -> Job | None:
        """Return the next job that has to wait for none, ``None`` if there is none now."""
        with self._changed:
            job = next(filter(self._free, self._left), None)
            if job is not None:
                self._left.remove(job)
                if job.images not in self._encoded:
                    self._encoding.add(job.images)
            return job

    def obstacle(self, job: Job) -> str:
        """Say why a job cannot be done; empty if it can."""
        with self._changed:
            failed = job.cell.after in self.failed
        return f"it needs {job.cell.after}, which failed" if failed else ""

    def ended(self, job: Job, error: str) -> None:
        """Let the jobs go that wait for this one."""
        with self._changed:
            self._open.discard(job.cell.name)
            if error:
                self.failed.add(job.cell.name)
            self._encoding.discard(job.images)
            self._encoded.add(job.images)
            self._changed.notify_all()

    def _free(self, job: Job) -> bool:
        return job.images not in self._encoding and job.cell.after not in self._open

    def stop(self) -> None:
        """Give out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def carry_out(schedule: Schedule, workers: Sequence[Callable[[Job], Done]]) -> Iterator[Done]:
    """Run all jobs, each worker in a thread of its own, and yield each as it ends."""
    ended: Queue[Done | BaseException | None] = Queue()

    def serve(work: Callable[[Job], Done]) -> None:
        try:
            while (job := schedule.take()) is not None:
                obstacle = schedule.obstacle(job)
                done = Done(job, obstacle, 0.0) if obstacle else work(job)
                schedule.ended(job, done.error)
                ended.put(done)
            ended.put(None)
        except BaseException as error:
            ended.put(error)

    for work in workers:
        threading.Thread(target=serve, args=(work,), daemon=True).start()
    serving = len(workers)
    try:
        while serving:
            done = ended.get()
            if isinstance(done, BaseException):
                raise done
            if done is None:
                serving -= 1
            else:
                yield done
    finally:
        schedule.stop()
