"""Keep the details of a final evaluation on the client's own disk."""

from collections.abc import Mapping
from typing import Any

from client_app.runtime import Runtime
from client_app.site_log import SiteLog
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.evaluations import FORMAT, Evaluation, write_evaluation
from fedrsclip_core.wire.messages import RoundRequest


def keep_details(
    runtime: Runtime,
    request: RoundRequest,
    parts: Mapping[str, Any],
    logit_scale: float,
    log: SiteLog,
) -> None:
    """Write ``<home>/evaluations/<federation>/<run>/<client>.json``, for its owner only.

    A disk without room costs the details, not the client's answer.
    """
    name = runtime.site.client_name
    folder = paths.evaluations_dir(runtime.config.federation.name, request.run_name)
    found: Evaluation = {
        "format": FORMAT,
        "run": request.run_name,
        "client": name,
        "round": request.server_round,
        "class_names": list(runtime.class_names),
        "logit_scale": logit_scale,
        "parts": dict(parts),
    }
    try:
        write_evaluation(folder, found)
    except OSError as error:
        log.write(f"the details of the evaluation were not kept in {folder}: {error.strerror}")
