"""One rendered federation of three sites that goes through one fault after the other.

Every host's scripts are kept alive as systemd would keep them. The outages are the shortest that
cross Flower's thresholds; what happened and how long it took is printed at the end.
"""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fedrsclip_core.deploy.keys import write_authority, write_node_key, write_server
from fedrsclip_core.deploy.proxy import Proxy, nginx_conf
from fedrsclip_core.processes import process_table
from tests.integration.deployed import Deployment, free_port
from tests.integration.test_deploy import CLASSES, WANTED, fill_in_site, make_images
from tests.tiny_clip import make_tiny_clip

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900), *WANTED]

CLIENTS = ("north", "east", "south")
RUN = "faults"
ROUNDS = 40
ROUND_SECONDS = 25
PATIENCE = 240
KNOCK_SECONDS = 8
FAKETIME = shutil.which("faketime")
RESTARTED = ("sh", "-c", 'while :; do "$0"; sleep 3; done')
OVERRIDES = (
    "federation=deployment",
    f"federation.clients=[{','.join(CLIENTS)}]",
    "federation.min_clients=3",
    "federation.min_replies=1",
    f"federation.num_rounds={ROUNDS}",
    f"federation.round_timeout={ROUND_SECONDS}",
    "federation.max_failed_rounds=20",
    "federation.connect_timeout=90",
    "federation.prepare_timeout=100",
    "privacy=deployment",
    "partition=site",
    "model=local",
    "prompt.private_init=random",
    "prompt.shared_init=random",
    "strategy=fedadam",
    "data=folder",
    f"data.class_names=[{','.join(CLASSES)}]",
    f"run.name={RUN}",
)


class Patient:
    """The federation, and what is seen of its run."""

    def __init__(self, root: Path) -> None:
        self.deployment = Deployment(root, "127.0.0.1", OVERRIDES)
        clip = make_tiny_clip(root / "clip", layers=1)
        for name in CLIENTS:
            make_images(root / f"images-{name}", name)
            fill_in_site(self.deployment, name, clip)
        self.folder = self.deployment.server / "home" / "runs" / RUN
        self.submitted: tuple[int, str] | None = None
        self._submission = threading.Thread(target=self._submit, daemon=True)
        self.starts: dict[str, float] = {}

    def start(self) -> None:
        for name in ("superlink", "superexec", "proxy"):
            self.deployment.start(self.deployment.server / f"{name}.sh", *RESTARTED)
        self.deployment.wait(self.deployment._healthy)
        # A key that is registered, for a site whose clock is wrong.
        spare = self.deployment.server / "keys" / "spare.pub"
        spare.write_bytes(write_node_key(self.deployment.root / "spare"))
        assert self.deployment.call(self.deployment.server / "register.sh")[0] == 0
        for name in CLIENTS:
            self.deployment.start_client(name, *RESTARTED)
        self._submission.start()

    def _submit(self) -> None:
        self.submitted = self.deployment.call(self.deployment.admin / "submit.sh", timeout=900)

    def records(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.is_file() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> float:
        """Wait until something holds; return the seconds that it took."""
        start = time.monotonic()
        while not condition():
            waited = time.monotonic() - start
            assert waited < PATIENCE, f"{what}\n{self.deployment.logs()}"
            assert self.submitted is None, f"{what}: the run is over\n{self.submitted}"
            time.sleep(0.2)
        return time.monotonic() - start

    def wait_for_round(self, valid: int, after: int | None = None) -> float:
        """Wait for a later round with this many valid replies."""
        start = len(self.records()) if after is None else after

        def there() -> bool:
            return any(r["clients"]["valid"] == valid for r in self.records()[start:])

        return self.wait_for(f"a round with {valid} replies", there)

    def pids(self, host: str, program: str = "") -> list[int]:
        """Return the processes of one host (a folder), or those of one of Flower's programs."""
        found = []
        home = f"FLWR_HOME={self.deployment.out}/{host}/".encode()
        for pid in process_table():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            named = any(word.endswith(f"/{program}".encode()) for word in command[:2])
            if home in environment and (named or not program):
                found.append(pid)
        return found

    def site_log(self, name: str) -> str:
        return (self.deployment.client(name) / "home" / "logs" / f"{name}.log").read_text()


def send(number: int, pids: list[int]) -> list[int]:
    """Send a signal to processes that may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return pids


@dataclass
class Story:
    """What was seen."""

    patient: Patient
    seconds: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    left_behind: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    patient = Patient(tmp_path_factory.mktemp("faults"))
    story = Story(patient)
    try:
        patient.start()
        patient.wait_for_round(valid=3)
        meet_strangers(story)
        lose_a_node(story)
        lose_the_superlink(story)
        meet_a_slow_client(story)
        lose_all_nodes(story)
        lose_the_server_app(story)
        done = patient.wait_for(
            "the end of the run", lambda: (patient.folder / "results.json").is_file()
        )
        story.seconds["the rest of the run"] = done
        patient._submission.join(PATIENCE)
        story.records = patient.records()
    finally:
        patient.deployment.end()
    story.left_behind = patient.deployment.left_behind()
    print(json.dumps(story.seconds, indent=1))
    yield story


def meet_strangers(story: Story) -> None:
    """Let nodes knock that must not come in, while the run goes on."""
    deployment = story.patient.deployment

    twin = stranger(deployment, "twin")
    story.said["the same key on a second machine"] = knocked(deployment, twin)

    misled = stranger(deployment, "misled")
    authority = misled.parent / "tls" / "ca.crt"
    write_authority(misled.parent / "tls" / "ca.key", authority, "another", 10)
    story.said["another authority"] = knocked(deployment, misled)

    tls, port = deployment.root / "expired", free_port()
    ca = deployment.out / "ca"
    files = (tls / "server.key", tls / "server.crt")
    write_server(ca / "ca.key", ca / "ca.crt", *files, ["127.0.0.1"], 0)
    proxy = Proxy(str(port), f"127.0.0.1:{deployment.superlink_port}", str(files[1]), str(files[0]))
    (tls / "nginx.conf").write_text(nginx_conf(replace(proxy, authority=str(ca / "ca.crt"))))
    deployment.start(tls / "nginx.conf", "nginx", "-e", "stderr", "-p", str(tls), "-c")
    late = stranger(deployment, "late")
    late.write_text(late.read_text().replace(f":{deployment.port} ", f":{port} "))
    story.said["an expired certificate"] = knocked(deployment, late)

    if FAKETIME is not None:
        for shift in ("-1h", "+1h"):
            lost = stranger(deployment, f"lost{shift}", key="spare")
            before = (FAKETIME, "-f", shift)
            story.said[f"a clock off by {shift}"] = knocked(deployment, lost, *before)


def stranger(deployment: Deployment, name: str, key: str = "north") -> Path:
    """Copy a site's folder to another machine; return the script of its SuperNode."""
    place = deployment.client(name)
    ours = shutil.ignore_patterns("flwr", "home", "*.log")
    shutil.copytree(deployment.client("north"), place, ignore=ours)
    deployment.fill_in(place / "site.env", {"SUPERNODE_PORT": str(free_port())})
    script = place / "supernode.sh"
    script.write_text(script.read_text().replace("keys/north", f"keys/{key}"))
    if key != "north":
        shutil.copy(deployment.root / key, place / "keys" / key)
    return script


def knocked(deployment: Deployment, script: Path, *before: str) -> str:
    """Start a SuperNode, give it some seconds and return what it says."""
    deployment.start(script, *before)
    deadline = time.monotonic() + KNOCK_SECONDS
    while not deployment.ended(script) and time.monotonic() < deadline:
        time.sleep(0.2)
    deployment._trees[script].end()
    return deployment.log(script).read_text()


def lose_a_node(story: Story) -> None:
    """Kill all processes of one site in the middle of a round; they are started again."""
    patient = story.patient
    client = lambda: bool(patient.pids("clients/south", "flwr-clientapp"))  # noqa: E731
    patient.wait_for("a client process", client)
    assert send(signal.SIGKILL, patient.pids("clients/south"))
    start = len(patient.records())
    story.seconds["a site dies: next round without it"] = patient.wait_for_round(2, start)
    story.seconds["a site dies: until it is back"] = patient.wait_for_round(3, start)


def lose_the_superlink(story: Story) -> None:
    patient = story.patient
    start = len(patient.records())
    assert send(signal.SIGKILL, patient.pids("server", "flower-superlink"))
    story.seconds["the SuperLink dies: next round of all"] = patient.wait_for_round(3, start)


def meet_a_slow_client(story: Story) -> None:
    """Hold one site's processes for longer than a round may take."""
    patient = story.patient
    start = len(patient.records())
    # Its SuperExec too: else the next message finds a quick process again.
    programs = ("flower-superexec", "flwr-clientapp")
    held = [pid for name in programs for pid in patient.pids("clients/north", name)]
    send(signal.SIGSTOP, held)
    story.seconds["a slow site: next round without it"] = patient.wait_for_round(2, start)
    send(signal.SIGCONT, held)
    story.seconds["a slow site: until it is back"] = patient.wait_for_round(3, start)
    story.said["slow"] = patient.site_log("north")


def lose_all_nodes(story: Story) -> None:
    """Stop all sites, wait until the server says that it waits, and start them again."""
    patient = story.patient
    trees = patient.deployment._trees
    scripts = [
        patient.deployment.client(name) / script
        for name in CLIENTS
        for script in ("supernode.sh", "superexec.sh")
    ]
    for script in scripts:
        trees[script].end()
    log = patient.deployment.log(patient.deployment.server / "superexec.sh")
    start = len(patient.records())
    failed: Callable[[], bool] = lambda: any(r["failure"] for r in patient.records()[start:])  # noqa: E731
    story.seconds["all sites gone: first failed round"] = patient.wait_for("a failed round", failed)
    for name in CLIENTS:
        patient.deployment.start_client(name, *RESTARTED)
    again = len(patient.records())
    story.seconds["all sites back: next round of all"] = patient.wait_for_round(3, again)
    story.said["superexec"] = log.read_text()


def lose_the_server_app(story: Story) -> None:
    patient = story.patient
    before = patient.records()[-1]["round"]
    assert send(signal.SIGKILL, patient.pids("server", "flwr-serverapp"))
    about = patient.folder / "run.json"
    again: Callable[[], bool] = (  # noqa: E731
        lambda: len(json.loads(about.read_text())["flower_run_ids"]) > 1
    )
    story.seconds["the ServerApp dies: until it goes on"] = patient.wait_for("a new run", again)
    story.seconds["the ServerApp dies: next round of all"] = patient.wait_for_round(3)
    assert patient.records()[-1]["round"] > before


def test_the_run_completes_with_its_rounds_in_sequence(story: Story) -> None:
    assert story.patient.submitted is not None
    status, said = story.patient.submitted
    assert status == 0, said
    assert "going on at the last checkpoint: 1 of at most 3 times" in said
    assert [record["round"] for record in story.records] == list(range(ROUNDS + 1))
    results = json.loads((story.patient.folder / "results.json").read_text())
    assert results["status"] == "completed"
    assert [client["name"] for client in results["clients"]] == list(CLIENTS)


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("the same key on a second machine", "[code: 2004] Failed to activate SuperNode"),
        ("another authority", "CERTIFICATE_VERIFY_FAILED"),
        ("an expired certificate", "certificate has expired"),
        ("a clock off by -1h", "s behind the server's; Flower refuses"),
        ("a clock off by +1h", "s ahead of the server's; Flower refuses"),
    ],
)
def test_strangers_are_refused(story: Story, who: str, words: str) -> None:
    if who not in story.said:
        pytest.skip("faketime is not installed")
    print(story.said[who][-1500:])
    assert words in story.said[who]
    assert "Connected" not in story.said[who]


def test_a_failed_round_is_bounded_by_its_deadline(story: Story) -> None:
    slowest = max(record["seconds"] for record in story.records)
    print([round(record["seconds"], 1) for record in story.records])
    assert slowest < ROUND_SECONDS + 10


def test_what_was_dropped_is_counted_by_name(story: Story) -> None:
    results = json.loads((story.patient.folder / "results.json").read_text())
    print(results["dropped"])
    reasons = results["dropped"]["clients"]
    assert {"north", "south"} <= reasons.keys()
    known = {"timeout", "unreachable", "crashed", "late", "internal"}
    assert all(set(found) <= known for found in reasons.values())


def test_a_site_that_returns_goes_on_with_its_private_prompt(story: Story) -> None:
    for name in CLIENTS:
        private = story.patient.deployment.client(name) / "home" / "private" / "sites" / RUN / name
        kept = sorted(path.name for path in private.glob("*.safetensors"))
        assert kept[-1] == f"round-{ROUNDS:06d}.safetensors", kept
        assert "starts from" not in story.patient.site_log(name)


def test_no_process_is_left(story: Story) -> None:
    assert story.left_behind == []
