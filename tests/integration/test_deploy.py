"""A rendered federation with real processes: SuperLink, SuperExecs, SuperNodes, nginx."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from cryptography import x509
from safetensors.numpy import load_file

from fedrsclip.cli import main
from fedrsclip.deploy.keys import write_node_key
from fedrsclip.run.staging import stage_app
from fedrsclip.site.journal import journals
from fedrsclip_core.config.compose import conf_dir
from fedrsclip_core.wire.digests import PACKAGES, code_digest, files_digest
from tests.integration.deployed import Deployment, answer, free_port, pids_of
from tests.integration.loopback import Wiretap
from tests.integration.namespaces import Cable, namespace
from tests.tiny_clip import make_tiny_clip

_NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

WANTED = [
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc"),
    pytest.mark.skipif(_NGINX is None, reason="nginx is not installed"),
]
pytestmark = [pytest.mark.integration, pytest.mark.flower, *WANTED]

CLASSES = ("forest", "harbor")
CLIENTS = ("north", "south")
IMPOSTOR = "west"
"""A site of the federation that says it is north."""
RUN = "deployed"
UNKNOWN = "waiting to be registered: the server does not know this site's key"
OVERRIDES = (
    "federation=deployment",
    f"federation.clients=[{','.join((*CLIENTS, IMPOSTOR))}]",
    "federation.num_clients=3",
    "federation.min_clients=2",
    "federation.num_rounds=1",
    "federation.connect_timeout=200",
    "federation.prepare_timeout=200",
    "privacy=deployment",
    "partition=site",
    "model=local",
    "data=folder",
    f"data.class_names=[{','.join(CLASSES)}]",
    f"run.name={RUN}",
)
PROGRAM = "flwr-clientapp"
NORTH = 'partition-id=0 num-partitions=3 client-name="north"'
SECRET = "ZZ-a-sentence-of-the-site-ZZ"
CANARY = """
import os, pathlib, sys
if "flwr-clientapp" in pathlib.Path("/proc/self/comm").read_text():
    pathlib.Path(os.environ["FEDRSCLIP_HOME"], "canary").touch()
    raise RuntimeError("{backwards}"[::-1] + os.environ["FEDRSCLIP_DATA_PATH"])
"""
"""What a submitted app would do at a site when it is imported there. It holds no secret itself."""
TLS_KINDS = {20: "change of ciphers", 21: "alert", 22: "handshake", 23: "application data"}
REFUSED = (
    "/v1/control/list-runs",
    "/v1/control/start-run",
    "/v1/runtime/acquire-task",
    "/v1/fleet/../control/list-runs",
    "/v1/fleet/%2e%2e/control/list-runs",
    "/v1/fleet%2f..%2fcontrol%2flist-runs",
    "/v1/fleet/pull-messages/../../control/list-runs",
    "/v1/fleet",
    "/v1/fleet/",
    "/health",
    "/docs",
    "/openapi.json",
    "/",
)


@dataclass(frozen=True)
class Rotation:
    """What was seen when a site's key and the server's certificate were made again."""

    with_old_key: str
    registered: tuple[int, str]
    serials: tuple[int, int]


@dataclass(frozen=True)
class Submitted:
    """What was seen when an app was submitted whose code is not the installed one.

    Attributes
    ----------
    said : str
        What `submit.sh` printed.
    status : int
        How it ended.
    canaries : list[str]
        Sites at which the app did what no app may do.
    written : list[Path]
        Its code at the sites' disks.
    logs : dict[str, str]
        What each site wrote for itself meanwhile.
    """

    said: str
    status: int
    canaries: list[str]
    written: list[Path]
    logs: dict[str, str]


@dataclass
class Outcome:
    """What was seen while the federation ran, and what it left."""

    deployment: Deployment
    tap: Wiretap
    registered: tuple[int, str] = (-1, "")
    typed: int = 0
    seconds: float = 0.0
    answers: dict[str, int | None] = field(default_factory=dict)
    stranger: str = ""
    submitted: tuple[int, str] = (-1, "")
    refused: "Submitted | None" = None
    allowed: "Submitted | None" = None
    commands: dict[int, str] = field(default_factory=dict)
    nodes: str = ""
    rotated: "Rotation | None" = None
    names: str = ""
    left_behind: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    root = tmp_path_factory.mktemp("deploy")
    clip = make_tiny_clip(root / "clip", layers=1)
    begin = time.monotonic()
    deployment = Deployment(root, "127.0.0.1", OVERRIDES)
    tap = Wiretap(deployment.port)
    outcome = Outcome(deployment, tap)
    for name in (*CLIENTS, IMPOSTOR):
        make_images(root / f"images-{name}", name)
        values = {"FEDRSCLIP_DEVICE": "cpu", "SUPERNODE_PORT": str(free_port())}
        deployment.fill_in(deployment.client(name) / "site.env", values)
    script = deployment.client("north") / "supernode.sh"
    there, tapped = f"127.0.0.1:{deployment.port} ", f"127.0.0.1:{tap.port} "
    change(script, there, tapped)
    lie = deployment.client(IMPOSTOR) / "supernode.sh"
    change(lie, f'partition-id=2 num-partitions=3 client-name="{IMPOSTOR}"', NORTH)
    try:
        # The sites first: they wait for the server.
        commands = deployment.commands()
        outcome.typed = 1 + len(commands)  # the first has rendered all this
        for command in sorted(commands, key=lambda command: command.startswith("server/")):
            carry_out(deployment, command, clip)
        deployment.wait(deployment.healthy)
        port = deployment.port
        for path in (*REFUSED, "/v1/fleet/pull-messages"):
            outcome.answers[path] = answer("127.0.0.1", port, "POST", path, deployment.authority)
        path = "/v1/fleet/pull-messages"
        outcome.answers["GET"] = answer("127.0.0.1", port, "GET", path, deployment.authority)
        with client_processes(deployment) as outcome.commands:
            outcome.submitted = deployment.call(deployment.admin / "submit.sh")
        outcome.seconds = time.monotonic() - begin
        outcome.registered = deployment.call(deployment.server / "register.sh")
        changed = stage_app(root / "changed")
        shutil.copytree(conf_dir(), changed / "conf")  # `fedrsclip submit` composes there
        with (changed / "fedrsclip_core" / "__init__.py").open("a") as code:
            code.write(CANARY.replace("{backwards}", SECRET[::-1]))
        deployment.fill_in(deployment.admin / "admin.env", {"RESTARTS": "0"})
        outcome.refused = submit_changed(deployment, changed, "refused")
        for name in CLIENTS:
            policy = deployment.client(name) / "site.yaml"
            policy.write_text(policy.read_text().replace("_code: false", "_code: true"))
        outcome.allowed = submit_changed(deployment, changed, "allowed")
        flower = deployment.admin / "flower.sh"
        outcome.nodes = deployment.call(flower, "supernode", "list", "--format", "json")[1]
        outcome.names = deployment.call(flower, "supernode", "list")[1]
        outcome.stranger = meet_a_stranger(deployment)
        # Behind a relay, a server that is away looks like a handshake that fails: Flower gives up.
        change(script, tapped, there)
        outcome.rotated = rotate(deployment)
    finally:
        deployment.end()
        tap.close()
    outcome.left_behind = deployment.left_behind()
    yield outcome


def app_files_in(folder: Path) -> dict[str, Path]:
    paths = (path for package in PACKAGES for path in (folder / package).rglob("*.py"))
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths)}


def submit_changed(deployment: Deployment, app: Path, run: str) -> Submitted:
    """Submit an app that is not what the sites have installed."""
    homes = {name: deployment.client(name) / "home" for name in CLIENTS}
    logs = {name: home / "logs" / f"{name}.log" for name, home in homes.items()}
    before = {name: log.stat().st_size for name, log in logs.items()}
    status, said = deployment.call(
        deployment.admin / "submit.sh",
        f"run.name={run}",
        environment={"PYTHONPATH": str(app)},
    )
    return Submitted(
        said,
        status,
        [name for name, home in homes.items() if (home / "canary").exists()],
        [path for name in CLIENTS for path in deployment.client(name).rglob("*.py")],
        {name: log.read_text()[before[name] :] for name, log in logs.items()},
    )


@contextmanager
def client_processes(deployment: Deployment) -> Iterator[dict[int, str]]:
    """Collect the command lines of all ClientApps that are seen meanwhile, by pid."""
    seen: dict[int, str] = {}
    over = Event()

    def look() -> None:
        while not over.wait(0.02):
            for name in CLIENTS:
                for pid in pids_of(deployment.client(name), PROGRAM):
                    with suppress(OSError):
                        line = Path(f"/proc/{pid}/cmdline").read_text()
                        # One that is ending has no command line any more, and one that has become
                        # another program in between has that one's.
                        if line and Path(f"/proc/{pid}/comm").read_text().strip() == PROGRAM:
                            seen[pid] = line

    looking = Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def fill_in_site(deployment: Deployment, name: str, clip: Path) -> None:
    values = {
        "FEDRSCLIP_DATA_PATH": str(deployment.root / f"images-{name}"),
        "FEDRSCLIP_MODEL_PATH": str(clip),
        "FEDRSCLIP_DEVICE": "cpu",
        "SUPERNODE_PORT": str(free_port()),
    }
    deployment.fill_in(deployment.client(name) / "site.env", values)


def change(script: Path, old: str, new: str) -> None:
    text = script.read_text()
    assert text.count(old) == 1
    script.write_text(text.replace(old, new))


def carry_out(deployment: Deployment, command: str, clip: Path) -> None:
    """Do what a person does by one command of the README; nothing travels on one machine."""
    program, *arguments = command.split(" ")
    if program == "server/start":
        deployment.start(deployment.server / "start")
    elif program.endswith("/start"):
        name = program.partition("/")[0]
        given = {"FEDRSCLIP_DATA_PATH": deployment.root / f"images-{name}"}
        given["FEDRSCLIP_MODEL_PATH"] = clip
        assert arguments == [f"{variable}=<folder>" for variable in given]
        values = [f"{variable}={value}" for variable, value in given.items()]
        deployment.start(deployment.client(name) / "start", arguments=values)
    else:
        assert program in ("fedrsclip", "scp", "admin/submit.sh"), command


def make_images(folder: Path, name: str, per_class: int = 8) -> None:
    from PIL import Image

    generator = np.random.default_rng(list(name.encode()))
    for index, class_name in enumerate(CLASSES):
        (folder / class_name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[:: index + 2, :, index] += 120
            Image.fromarray(pixels).save(folder / class_name / f"{number:02d}.png")


def tls_records(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield kind and size of each TLS record; fail at a byte that belongs to none."""
    position = 0
    while position < len(stream):
        kind, version = stream[position], stream[position + 1 : position + 3]
        assert kind in TLS_KINDS, stream[position : position + 40]
        assert version in (b"\x03\x01", b"\x03\x03")
        size = int.from_bytes(stream[position + 3 : position + 5], "big")
        yield kind, size
        position += 5 + size
    # The last record may be cut where the connection was.


def meet_a_stranger(deployment: Deployment) -> str:
    """Start a SuperNode with a key that nobody registered; return what it says."""
    place = deployment.client("stranger")
    ours = shutil.ignore_patterns("flwr", "home", "*.log")
    shutil.copytree(deployment.client("north"), place, ignore=ours)
    write_node_key(place / "keys" / "north")
    deployment.fill_in(place / "site.env", {"SUPERNODE_PORT": str(free_port())})
    script = place / "supernode.sh"
    deployment.start(script)
    deployment.wait(lambda: UNKNOWN in deployment.log(script).read_text())
    deployment._trees[script].end()
    return deployment.log(script).read_text()


def nodes_of(deployment: Deployment) -> dict[str, str]:
    """Return the status of each node by its id, as the administrator sees it."""
    said = deployment.call(deployment.admin / "flower.sh", "supernode", "list", "--format", "json")
    nodes = json.loads(said[1][said[1].find("{") :])["nodes"]
    return {str(node["node-id"]): node["status"] for node in nodes}


def connected(deployment: Deployment) -> list[bool]:
    """Return for each SuperNode whether it found its server when it last looked, as it says."""
    texts = [deployment.client_log(name) for name in CLIENTS]
    found, missed = "Connection successful", "Connection attempt failed"
    return [text.rfind(found) >= text.rfind(missed) for text in texts]


def serial(deployment: Deployment) -> int:
    """Return the serial number of the certificate that the proxy shows."""
    shown = ssl.get_server_certificate(("127.0.0.1", deployment.port))
    return x509.load_pem_x509_certificate(shown.encode()).serial_number


def rotate(deployment: Deployment) -> Rotation:
    """Give one site a new key and the server a new certificate, as docs/deployment says."""
    start, key = deployment.server / "start", deployment.client("north") / "keys" / "north"
    deployment.end_client("north")
    old = key.read_bytes()
    assert main(["deploy", "certs", f"out={deployment.out}", "rotate=north"]) == 0
    new = key.read_bytes()
    deployment.wait(
        lambda: (
            "north: its earlier key is no longer registered" in deployment.log(start).read_text()
        )
    )
    key.write_bytes(old)
    deployment.start_client("north")
    deployment.wait(lambda: UNKNOWN in deployment.client_log("north"))
    with_old_key = deployment.client_log("north")
    deployment.end_client("north")
    key.write_bytes(new)
    deployment.start_client("north")
    deployment.wait(lambda: list(nodes_of(deployment).values()).count("online") == 3)
    registered = deployment.call(deployment.server / "register.sh")
    before = serial(deployment)
    assert main(["deploy", "certs", f"out={deployment.out}", "rotate=server"]) == 0
    deployment._trees[start].end()
    deployment.wait(lambda: connected(deployment) == [False, False])
    deployment.start(start)
    # Nobody restarts the nodes: they find the server with its new certificate by themselves.
    deployment.wait(lambda: connected(deployment) == [True, True])
    return Rotation(with_old_key, registered, (before, serial(deployment)))


def test_a_run_completes_through_the_proxy(outcome: Outcome) -> None:
    status, said = outcome.submitted
    print(said[-600:])
    assert status == 0, said + outcome.deployment.logs()
    assert "finished:completed" in said
    home = outcome.deployment.server / "home"
    results = json.loads((home / "runs" / RUN / "results.json").read_text())
    assert results["status"] == "completed"
    assert [client["name"] for client in results["clients"]] == list(CLIENTS)
    assert results["dropped"]["total"] == 0


def test_an_impostor_is_refused_and_the_one_it_plays_is_not(outcome: Outcome) -> None:
    home = outcome.deployment.server / "home"
    results = json.loads((home / "runs" / RUN / "results.json").read_text())
    (who,) = results["refused"]
    assert who == f"the node registered for {IMPOSTOR}"
    assert "it says it is north" in results["refused"][who]
    registry = json.loads((home / "registry.json").read_text())["nodes"].values()
    names = {entry["client_name"]: entry["partition_id"] for entry in registry}
    assert names == {"north": 0, "south": 1, IMPOSTOR: 2}
    assert all(f"  {name} (node " in outcome.names for name in names)


def test_few_commands_lead_to_the_first_round(outcome: Outcome) -> None:
    print(f"{outcome.typed} commands, {outcome.seconds:.0f} s to the end of a run of one round")
    assert outcome.typed <= 15
    said = {name: outcome.deployment.client_log(name) for name in CLIENTS}
    assert all("waiting for the server 127.0.0.1:" in text for text in said.values())


def test_each_message_has_a_forked_process(outcome: Outcome) -> None:
    messages = ("identity", "prepare", "train", "evaluate")
    assert len(outcome.commands) >= len(messages) * len(CLIENTS), outcome.commands
    others = {n: s for n, s in outcome.commands.items() if "multiprocessing.forkserver" not in s}
    assert others == {}


def test_submitted_code_that_is_not_installed_is_refused_and_never_runs(outcome: Outcome) -> None:
    seen = outcome.refused
    assert seen is not None and seen.status == 1
    assert seen.canaries == []
    assert seen.said.count("query.identity failed there (configuration)") >= len(CLIENTS)
    theirs = files_digest(app_files_in(outcome.deployment.root / "changed"))
    for log in seen.logs.values():
        assert "fedrsclip_core/__init__.py differs" in log
        assert theirs in log and code_digest() in log
    assert seen.written == []


def test_a_site_that_allows_it_runs_submitted_code_and_keeps_its_sentences(
    outcome: Outcome,
) -> None:
    seen = outcome.allowed
    assert seen is not None and seen.status == 1
    assert seen.canaries == list(CLIENTS) and len(seen.written) > 100
    assert seen.said.count("query.identity failed there (internal)") >= len(CLIENTS)
    assert all(SECRET in log for log in seen.logs.values())
    server = [path for path in outcome.deployment.server.rglob("*") if path.is_file()]
    assert any(path.name == "superlink.db" for path in server)
    for words in (SECRET, str(outcome.deployment.root / "images-")):
        assert words not in seen.said
        assert [path for path in server if words.encode() in path.read_bytes()] == []


def test_the_journal_of_a_site_has_every_message(outcome: Outcome) -> None:
    for name in CLIENTS:
        (journal,) = journals(outcome.deployment.client(name) / "home" / "logs")
        lines = list(journal.entries())
        done = [line for line in lines if line["run"] == RUN]
        kinds = [line["kind"] for line in done]
        rest = ["evaluate", "train", "evaluate"]
        assert kinds == ["query.identity", "query.prepare", *rest]
        assert {(line["outcome"], line["code"]) for line in done} == {("done", "installed")}
        assert all(line["bytes_in"] > 0 and line["bytes_out"] > 0 for line in done)
        outcomes = {line["run"]: line["outcome"] for line in lines if line["run"] != RUN}
        assert outcomes == {"refused": "configuration", "allowed": "internal"}


def test_only_the_fleet_is_published(outcome: Outcome) -> None:
    print(outcome.answers)
    assert {path: outcome.answers[path] for path in REFUSED} == dict.fromkeys(REFUSED, 403)
    assert outcome.answers["GET"] == 403
    # Flower's own answer to a request without a signature.
    assert outcome.answers["/v1/fleet/pull-messages"] == 401
    log = outcome.deployment.log(outcome.deployment.server / "start").read_text()
    assert "/v1/control/list-runs" in log


def test_the_wire_carries_tls_and_nothing_else(outcome: Outcome) -> None:
    folder = outcome.deployment.server / "home" / "runs" / RUN
    ((name, shared),) = load_file(folder / "shared_prompt.safetensors").items()
    streams = [*outcome.tap.up, *outcome.tap.down]
    records = [record for stream in streams for record in tls_records(stream)]
    sizes = {kind: sum(size for k, size in records if k == kind) for kind in TLS_KINDS}
    print({TLS_KINDS[kind]: size for kind, size in sizes.items()})
    # All that Flower sends is application data: more of it than what is shared.
    assert sizes[23] > 10 * shared.nbytes
    wire = b"\n".join(streams)
    for plain in (shared.tobytes(), b"/v1/fleet", b"POST ", b"north", name.encode()):
        assert plain not in wire, plain[:16]


def test_keys_are_registered_once(outcome: Outcome) -> None:
    status, again = outcome.registered
    log = outcome.deployment.log(outcome.deployment.server / "start").read_text()
    clients = (*CLIENTS, IMPOSTOR)
    assert status == 0, again
    assert all(f"keys: {name}: registered" in log for name in clients)
    assert again.split("\n")[:3] == [f"{name}: is registered already" for name in clients]
    nodes = json.loads(outcome.nodes[outcome.nodes.find("{") :])["nodes"]
    assert [node["status"] for node in nodes] == ["online"] * len(clients)


def test_an_unregistered_node_is_refused(outcome: Outcome) -> None:
    print(outcome.stranger[-400:])
    assert UNKNOWN in outcome.stranger
    assert "SuperNode ID:" not in outcome.stranger


def test_keys_can_be_renewed(outcome: Outcome) -> None:
    seen = outcome.rotated
    assert seen is not None
    assert UNKNOWN in seen.with_old_key
    status, said = seen.registered
    assert status == 0, said
    assert said.split("\n")[:2] == [f"{name}: is registered already" for name in CLIENTS]
    assert seen.serials[0] != seen.serials[1]


def test_private_prompts_are_at_their_clients_only(outcome: Outcome) -> None:
    found = {
        path.relative_to(outcome.deployment.out).parts[1]
        for path in outcome.deployment.out.rglob("private/**/round-*.safetensors")
    }
    assert found == set(CLIENTS)  # and the impostor trained nothing


def test_no_process_is_left(outcome: Outcome) -> None:
    assert outcome.left_behind == []


@pytest.fixture
def cable() -> Iterator[Cable]:
    with namespace() as cable:
        yield cable


def test_a_client_on_another_host_reaches_the_fleet_only(cable: Cable, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, cable.server, OVERRIDES)
    deployment.fill_in(deployment.client("north") / "site.env", {"FEDRSCLIP_DEVICE": "cpu"})
    try:
        deployment.start_server()
        assert deployment.call(deployment.server / "register.sh")[0] == 0
        port, hidden = deployment.port, deployment.superlink_port
        expected = {
            f"{port}:/v1/fleet/pull-messages": "401",
            f"{port}:/v1/control/start-run": "403",
            f"{port}:/v1/runtime/acquire-task": "403",
            f"{hidden}:/v1/fleet/pull-messages": "None",
            f"{hidden}:/v1/control/start-run": "None",
        }
        probe = [sys.executable, "-m", "tests.integration.deployed", cable.server]
        said = subprocess.run(
            [*cable.inside, *probe, str(deployment.authority), *expected],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        print(said)
        assert dict(line.split() for line in said.splitlines()) == expected
        node = deployment.client("north") / "supernode.sh"
        deployment.start(node, *cable.inside)
        deployment.wait(lambda: "SuperNode ID:" in deployment.log(node).read_text())
    finally:
        deployment.end()
