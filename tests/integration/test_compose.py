"""docker/compose.yaml in a container engine: a real run, what a client reaches, what is kept."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker" / "compose.yaml"
VERSIONS = {"v1": ["docker-compose"], "v2": ["docker", "compose"]}
ROUNDS = 2
_REJOIN_SECONDS = 180

# Run in a client's container: what answers at `address`, or why nothing does.
_PROBE = """
import ssl, sys, urllib.error, urllib.request
address, context = sys.argv[1], None
if address.startswith("https"):
    context = ssl.create_default_context(cafile="/keys/tls/ca.crt")
try:
    request = urllib.request.Request(address, data=b"", method="POST")
    print(urllib.request.urlopen(request, timeout=5, context=context).status)
except urllib.error.HTTPError as answer:
    print(answer.code)
except OSError as error:
    print("unreachable:", error)
"""
_HASHES = """
import hashlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.safetensors")):
    print(path.relative_to(sys.argv[1]), hashlib.sha256(path.read_bytes()).hexdigest())
"""


def works(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_file_is_valid(version: str, profile: str) -> None:
    command = VERSIONS[version]
    if not works([*command, "version"]):
        pytest.skip(f"{' '.join(command)} is not installed")
    asked = [*command, "-f", str(FILE), "config", "--quiet"]
    environment = os.environ | {"COMPOSE_PROFILES": profile}
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    # v2 puts what it does not like or no longer reads here.
    assert done.stderr == ""


class Composed:
    """A project of its own, with the images of this checkout."""

    def __init__(self) -> None:
        self.name = f"fedrsclip-test-{secrets.token_hex(3)}"
        self._environment = os.environ | {
            "COMPOSE_PROJECT_NAME": self.name,
            "FEDRSCLIP_TAG": "test",
            "FEDRSCLIP_LISTEN": "127.0.0.1:",
        }
        v2 = works([*VERSIONS["v2"], "version"])
        self._compose = [*VERSIONS["v2" if v2 else "v1"], "-f", str(FILE)]

    def demo(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._call([str(ROOT / "docker" / "demo.sh"), *arguments])

    def compose(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._call([*self._compose, *arguments])

    def python(self, service: str, code: str, *arguments: str) -> str:
        done = self.compose("exec", "-T", service, "python", "-c", code, *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def inspect(self, service: str, template: str) -> str:
        container = self.compose("ps", "-q", service).stdout.strip()
        return self._call(["docker", "inspect", "--format", template, container]).stdout.strip()

    def image(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        image = f"fedrsclip-{name}:test"
        return self._call(["docker", "run", "--rm", "--network", "none", image, *command])

    def private_prompts(self, client: int) -> set[str]:
        folder = "/var/lib/fedrsclip/private"
        return set(self.python(f"clientapp-{client}", _HASHES, folder).splitlines())

    def _call(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def federation() -> Iterator[Composed]:
    if not works(["docker", "info"]):
        pytest.skip("no container engine is reachable: start one, or set DOCKER_HOST")
    composed = Composed()
    try:
        yield composed
    finally:
        composed.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def first(federation: Composed) -> Composed:
    """The federation after its first run."""
    done = federation.demo("up", f"federation.num_rounds={ROUNDS}", "run.name=first")
    print(done.stdout)
    log = federation.compose("logs", "--no-color", "--tail", "40").stdout if done.returncode else ""
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{log}"
    assert f"last round ({ROUNDS})" in done.stdout
    assert "finished:completed" in done.stdout
    assert f"round   {ROUNDS} | 3/3 clients" in done.stdout
    return federation


@pytest.mark.docker
def test_a_client_reaches_the_fleet_api_and_nothing_else(first: Composed) -> None:
    def asked(service: str, address: str) -> str:
        return first.python(service, _PROBE, address)

    proxy = "https://proxy:8443/v1"
    # The SuperLink itself refuses a request that no node signed.
    assert asked("supernode-0", f"{proxy}/fleet/activate-node") not in ("403", "404")
    assert "unreachable" not in asked("supernode-0", f"{proxy}/fleet/activate-node")
    for path in (
        "control/start-run",
        "control/list-runs",
        "runtime/acquire-task",
        "fleet/../control/",
    ):
        assert asked("supernode-0", f"{proxy}/{path}") == "403"
    assert asked("supernode-0", "https://proxy:8443/health") == "403"

    addresses = json.loads(first.inspect("superlink", "{{json .NetworkSettings.Networks}}"))
    (superlink,) = (network["IPAddress"] for network in addresses.values())
    for service in ("supernode-0", "clientapp-0"):
        assert "unreachable" in asked(service, "http://superlink:8000/health")
        assert "unreachable" in asked(service, f"http://{superlink}:8000/health")
        assert "unreachable" in asked(service, "http://supernode-1:9094/health")
    assert "unreachable" in asked("clientapp-0", "http://proxy:8443/")


@pytest.mark.docker
def test_containers_are_as_confined_as_the_file_says(first: Composed) -> None:
    code = "import os; print(os.getuid(), os.access('/opt/fedrsclip', os.W_OK))"
    for service in ("superlink", "serverapp", "proxy", "supernode-0", "clientapp-0"):
        assert first.python(service, code) == "10001 False"
        assert first.inspect(service, "{{.HostConfig.ReadonlyRootfs}}") == "true"
        environment = first.inspect(service, "{{json .Config.Env}}")
        assert "FLWR_TELEMETRY_ENABLED=0" in environment
        assert "FLWR_DISABLE_UPDATE_CHECK=1" in environment
    for module in ("torch", "transformers", "datasets"):
        done = first.image("server", "python", "-c", f"import {module}")
        assert "ModuleNotFoundError" in done.stdout
    assert first.image("client", "python", "-c", "import torch").returncode == 0


@pytest.mark.docker
def test_a_run_that_fails_has_another_exit_status(first: Composed) -> None:
    done = first.compose("run", "--rm", "-T", "submit", "run.name=first")
    assert done.returncode == 1
    assert "finished:failed" in done.stdout


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="kills a container's process, which needs root")
def test_a_supernode_that_dies_comes_back(first: Composed) -> None:
    before = first.inspect("supernode-1", "{{.State.StartedAt}}")
    os.kill(int(first.inspect("supernode-1", "{{.State.Pid}}")), 9)
    deadline = time.monotonic() + _REJOIN_SECONDS
    while time.monotonic() < deadline:
        time.sleep(2)
        log = first.compose("logs", "--no-color", "--tail", "5", "supernode-1").stdout
        if first.inspect("supernode-1", "{{.State.Health.Status}}") == "healthy":
            break
    else:
        pytest.fail(f"supernode-1 did not come back: {log}")
    assert first.inspect("supernode-1", "{{.State.StartedAt}}") != before
    assert int(first.inspect("supernode-1", "{{.RestartCount}}")) >= 1


@pytest.mark.docker
def test_private_prompts_outlive_the_containers(first: Composed) -> None:
    before = [first.private_prompts(client) for client in range(3)]
    assert all(before)
    assert first.demo("down").returncode == 0
    assert first.compose("ps", "-q").stdout.strip() == ""
    done = first.demo(
        "up",
        f"federation.num_rounds={ROUNDS}",
        "run.name=second",
        "run.private_init_from=first",
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "finished:completed" in done.stdout
    for client in range(3):
        after = first.private_prompts(client)
        assert before[client] < after
        assert any("/second/" in line for line in after - before[client])
