"""The process that `benchmarks/startup.py` measures; it imports nothing that a client does not."""

import json
import os
import sys
import time


def as_client(config: str) -> None:
    """Handle one train message like a process of a SuperNode, and say how long each part took."""
    begin = time.perf_counter()
    from client_app.encoders import make_repeatable
    from client_app.rounds import Deadline, train
    from client_app.runtime import open_runtime
    from client_app.site_log import SiteLog
    from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
    from fedrsclip_core.wire.messages import RoundRequest

    imported = time.perf_counter()
    runtime = open_runtime({"partition-id": 0}, config)
    composed = time.perf_counter()
    log = SiteLog("client-0")
    make_repeatable(runtime.config.optimizer.threads)
    runtime.features("train", log)
    _ = runtime.text
    loaded = time.perf_counter()
    shared = runtime.start_prompt("random", "shared", 0)
    request = RoundRequest(1, f"run-{os.getpid()}", {SHARED_PROMPT: shared}, False, 0.0)
    train(runtime, request, Deadline(time.time() + 1e6), log)
    done = time.perf_counter()
    seconds = {
        "import": imported - begin,
        "configuration": composed - imported,
        "load": loaded - composed,
        "first message": done - loaded,
    }
    print(json.dumps(seconds), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    as_client(sys.argv[1])
