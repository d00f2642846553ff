"""A worker of `fedrsclip bench`: whole runs in one process, over the same handlers and strategy.

Reads a JSON line per run on standard input and answers with one on standard output. When the
input ends, so does the process, whatever it is doing: a run is safe against that at any moment.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from queue import Queue
from typing import IO, Any

from client_app.app import app as client_app
from fedrsclip.simulation.in_process import InProcessGrid
from fedrsclip_core.config.overrides import join_overrides
from fedrsclip_core.config.resolved import from_json
from fedrsclip_core.errors import FedRSCLIPError
from fedrsclip_core.wire.digests import code_digest
from server_app.app import exchange_of, run

_RUN_ID = 1
"""The same in each attempt, so that an interrupted run is resumed under its name."""


def run_cell(job: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one run, or what is left of it.

    Parameters
    ----------
    job : Mapping[str, Any]
        ``name``, the resolved ``configuration``, the ``overrides`` that it is made of, the
        ``partitions`` that take part, none for all, and
        ``data_path``, empty for the one in the environment.

    Returns
    -------
    dict[str, Any]
        ``name`` and ``error``: a sentence, empty if the run is completed.
    """
    try:
        config = from_json(job["configuration"])
        count = config.federation.num_clients
        partitions = job["partitions"] or range(count)
        site = {"data-path": job["data_path"]} if job["data_path"] else {}
        nodes = [{"partition-id": k, "num-partitions": count, **site} for k in partitions]
        grid = InProcessGrid(client_app, nodes, run_id=_RUN_ID)
        overrides = join_overrides(job["overrides"])
        run(exchange_of(grid), config, run_id=_RUN_ID, overrides=overrides, echo=_log)
        return {"name": job["name"], "error": ""}
    except FedRSCLIPError as error:
        return {"name": job["name"], "error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"name": job["name"], "error": f"an internal error ({type(error).__name__})"}


def main() -> None:
    """Serve until the input ends."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    code_digest()  # of the code that is loaded, before somebody edits it
    jobs: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_read, args=(sys.stdin, jobs), daemon=True).start()
    while True:
        print(json.dumps(run_cell(jobs.get())), file=answers, flush=True)


def _read(lines: IO[str], jobs: "Queue[dict[str, Any]]") -> None:
    for line in lines:
        jobs.put(json.loads(line))
    os._exit(0)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
