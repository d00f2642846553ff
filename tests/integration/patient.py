"""A rendered federation under the supervision of systemd's stand-in, to be hurt by tests."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedrsclip.deploy.keys import write_node_key
from tests.integration.deployed import Deployment, pids_of
from tests.integration.test_deploy import CLASSES, fill_in_site, make_images
from tests.tiny_clip import make_tiny_clip

PATIENCE = 240
RESTARTED = ("sh", "-c", 'while :; do "$0"; sleep 3; done')
SPARES = ("spare-0", "spare-1", "spare-2")
"""Keys that are registered and that no site uses."""

Record = dict[str, Any]

_ENDED = "submit.sh ended with "


class Patient:
    """The federation, and what is seen of its run.

    Parameters
    ----------
    root : Path
        Empty folder.
    clients : Sequence[str]
        Names of the sites.
    address : str
        Address of the server.
    before : Mapping[str, Sequence[str]]
        Words before a site's commands, e.g. those that run it on another host.
    overrides : str
        The rest of the description; ``run.name`` is the federation's ``name``.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        clients: Sequence[str],
        *overrides: str,
        address: str = "127.0.0.1",
        before: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        description = (
            "federation=deployment",
            f"federation.clients=[{','.join(clients)}]",
            f"federation.num_clients={len(clients)}",
            "federation.min_replies=1",
            "federation.max_failed_rounds=20",
            "federation.connect_timeout=90",
            "federation.prepare_timeout=100",
            "privacy=deployment",
            "partition=site",
            "model=local",
            "method=fedrsclip",
            "prompt.private_init=random",
            "prompt.shared_init=random",
            "data=folder",
            f"data.class_names=[{','.join(CLASSES)}]",
            f"run.name={name}",
        )
        self.name, self.clients = name, tuple(clients)
        self.deployment = Deployment(root, address, (*description, *overrides))
        self._before = dict(before or {})
        self.clip = make_tiny_clip(root / "clip", layers=1)
        for client in clients:
            make_images(root / f"images-{client}", client)
            fill_in_site(self.deployment, client, self.clip)
        self.folder = self.deployment.server / "home" / "runs" / name
        self._submission = self.deployment.admin / "submit.sh"

    def start(self) -> None:
        """Start everything and submit the run."""
        deployment = self.deployment
        for name in ("superlink", "superexec", "proxy"):
            deployment.start(deployment.server / f"{name}.sh", *RESTARTED)
        deployment.wait(deployment.healthy)
        for name in SPARES:
            line = write_node_key(deployment.root / name)
            public = deployment.root / f"{name}.pub"
            public.write_bytes(line)
            # As Flower's node and no client: register.sh takes the federation's clients alone.
            script = deployment.server / "flower.sh"
            status, said = deployment.call(script, "supernode", "register", str(public))
            assert status == 0, said
        assert deployment.call(deployment.server / "register.sh")[0] == 0
        for name in self.clients:
            self.start_client(name)
        connected = lambda name: "SuperNode ID:" in deployment.client_log(name)  # noqa: E731
        deployment.wait(lambda: all(map(connected, self.clients)))
        self.deployment.start(self._submission, "sh", "-c", f'"$0"; echo "{_ENDED}$?"')

    def start_client(self, name: str) -> None:
        """Start one site, for good."""
        self.deployment.start_client(name, *self._before.get(name, ()), *RESTARTED)

    @property
    def submitted(self) -> int | None:
        """The exit status of the submission; ``None`` while it lasts."""
        _, ended, status = self.run_log().rpartition(_ENDED)
        return int(status) if ended and status.endswith("\n") else None

    def records(self) -> list[Record]:
        """Return the rounds that are over; the one before the present round is not among them."""
        path = self.folder / "metrics.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.is_file() else ""
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def present_round(self) -> int:
        """The first round that can show what happens from now on."""
        return len(self.records()) + 1

    def wait_for(self, what: str, condition: Callable[[], bool]) -> float:
        """Wait until something holds; return the seconds that it took."""
        start = time.monotonic()
        while not condition():
            waited = time.monotonic() - start
            assert waited < PATIENCE, f"{what}\n{self.deployment.logs()}"
            assert self.submitted is None, f"{what}: the run is over\n{self.run_log()}"
            time.sleep(0.2)
        return time.monotonic() - start

    def wait_for_round(
        self, what: str, condition: Callable[[Record], bool], since: int | None = None
    ) -> float:
        """Wait for a round from ``since`` on (default: the present one) that is as wanted."""
        first = self.present_round if since is None else since
        return self.wait_for(what, lambda: any(map(condition, self.records()[first:])))

    def wait_for_all(self, what: str, clients: int | None = None) -> float:
        """Wait for a round in which all sites count."""
        wanted = len(self.clients) if clients is None else clients
        return self.wait_for_round(what, lambda record: record["clients"]["valid"] == wanted)

    def wait_for_drop(self, client: str, reason: str, since: int | None = None) -> float:
        """Wait for a round that continues without a site, for a reason that starts so."""

        def dropped(record: Record) -> bool:
            return str(record["clients"]["dropped"].get(client, "")).startswith(reason)

        return self.wait_for_round(f"{client} is dropped: {reason}", dropped, since)

    def wait_for_end(self) -> float:
        """Wait until the run and its submission are over."""
        start = time.monotonic()
        while self.submitted is None:
            assert time.monotonic() - start < PATIENCE, self.deployment.logs()
            time.sleep(0.5)
        return time.monotonic() - start

    @property
    def results(self) -> dict[str, Any]:
        """The summary of the run."""
        return dict(json.loads((self.folder / "results.json").read_text()))

    def pids(self, host: str, program: str = "") -> list[int]:
        """Return the processes of one host (a folder), or those of one of Flower's programs."""
        return pids_of(self.deployment.out / host, program)

    def site_log(self, name: str) -> str:
        """Return what a site wrote for itself."""
        return (self.deployment.client(name) / "home" / "logs" / f"{name}.log").read_text()

    def run_log(self) -> str:
        """Return what the server and `submit.sh` said of the run."""
        return self.deployment.log(self._submission).read_text()

    def private_files(self, name: str) -> list[Path]:
        """Return a site's private prompts of this run, the newest last."""
        home = self.deployment.client(name) / "home"
        return sorted((home / "private" / "sites" / self.name / name).glob("round-*.safetensors"))


def send(number: int, pids: Sequence[int]) -> Sequence[int]:
    """Send a signal to processes that may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return pids


def kill(pids: Sequence[int]) -> None:
    """Kill processes, of which there must be some."""
    assert send(signal.SIGKILL, pids)
