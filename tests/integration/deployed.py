"""The folders that `fedrsclip deploy` renders, each started by its own scripts."""

import http.client
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fedrsclip.cli import main
from fedrsclip.run.processes import ProcessTree, process_table

_PATIENCE = 180


class Deployment:
    """One rendered federation on this machine.

    Parameters
    ----------
    root : Path
        Empty folder; the rendered ones come below ``out``.
    address : str
        Address of the server.
    overrides : Sequence[str]
        The rest of the description.
    """

    def __init__(self, root: Path, address: str, overrides: Sequence[str]) -> None:
        self.root, self.out = root, root / "out"
        self.address = address
        self.port, self.superlink_port = free_port(), free_port()
        description = [
            *overrides,
            f"federation.address={address}",
            f"federation.port={self.port}",
            f"federation.superlink_port={self.superlink_port}",
        ]
        assert main(["deploy", *description, f"out={self.out}"]) == 0
        assert main(["deploy", "certs", f"out={self.out}"]) == 0
        self.server, self.admin = self.out / "server", self.out / "admin"
        self._trees: dict[Path, ProcessTree] = {}
        self._environment = {
            n: v for n, v in os.environ.items() if not n.startswith(("FLWR", "FEDRSCLIP"))
        } | {
            "HOME": str(root),
            "OMP_NUM_THREADS": "1",
        }
        for name in ("server", "admin"):
            self.fill_in(self.out / name / f"{name}.env", {})

    def client(self, name: str) -> Path:
        """Return a client's folder."""
        return self.out / "clients" / name

    def fill_in(self, file: Path, values: Mapping[str, str]) -> None:
        """Do what an administrator does in an env file."""
        values = {"FEDRSCLIP_BIN": str(Path(sys.executable).parent), **values}
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
        with file.open("a") as text:
            text.writelines(lines)

    def start(self, script: Path, *before: str, arguments: Sequence[str] = ()) -> None:
        """Start a script that stays; ``before`` are words in front of it."""
        log = self.log(script)
        command = [*before, str(script), *arguments]
        self._trees[script] = ProcessTree(command, self._environment, self.root, log)

    def log(self, script: Path) -> Path:
        """Return the file with a script's output."""
        return script.with_suffix(".log")

    def start_server(self) -> None:
        """Start SuperLink, SuperExec and proxy, and wait until the SuperLink answers."""
        for name in ("superlink", "superexec", "proxy"):
            self.start(self.server / f"{name}.sh")
        self.wait(self.healthy)

    def healthy(self) -> bool:
        """Whether the SuperLink answers."""
        return answer("127.0.0.1", self.superlink_port, "GET", "/health", self.authority) == 200

    def start_client(self, name: str, *before: str) -> None:
        """Start what runs at one site."""
        self.start(self.client(name) / "start", *before)

    def end_client(self, name: str) -> None:
        """End what runs at one site."""
        self._trees[self.client(name) / "start"].end()

    def client_log(self, name: str) -> str:
        """Return what the programs of one site have printed."""
        return self.log(self.client(name) / "start").read_text()

    def commands(self) -> list[str]:
        """Return what `README.md` says that people type until the first round, on all hosts."""
        readme = (self.out / "README.md").read_text()
        steps = readme[readme.index("## Until the first round") : readme.index("## What else")]
        blocks = re.findall(r"```sh\n(.*?)\n```", steps, re.DOTALL)
        return [line for block in blocks for line in block.split("\n")]

    def call(
        self,
        script: Path,
        *arguments: str,
        timeout: float = 120,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, str]:
        """Run a script to its end; return its status and output."""
        done = subprocess.run(
            [str(script), *arguments],
            env=self._environment | environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def authority(self) -> Path:
        """The certificate by which the server is known."""
        return self.admin / "tls" / "ca.crt"

    def ended(self, script: Path) -> bool:
        """Whether a started script has ended by itself."""
        return not self._trees[script].running

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; fail with all logs if it never does."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)

    def logs(self) -> str:
        """Return what everything has printed."""
        files = (self.log(script) for script in self._trees)
        return "\n".join(f"== {file}\n{file.read_text()}" for file in files)

    def end(self) -> None:
        """End everything, the clients first."""
        for tree in reversed(self._trees.values()):
            tree.end()

    def left_behind(self) -> list[int]:
        """Return the pids of living processes whose homes lie in this federation's folder."""
        return pids_of(self.root)


def answer(host: str, port: int, method: str, path: str, authority: Path) -> int | None:
    """Return the status of a request over TLS as a client would make it; None: no server."""
    context = ssl.create_default_context(cafile=authority)
    connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
    try:
        connection.request(method, path, headers={"Content-Type": "application/protobuf"})
        return connection.getresponse().status
    except ConnectionError:
        return None
    finally:
        connection.close()


def pids_of(place: Path, program: str = "") -> list[int]:
    """Return the processes of one host (its folder), or those of one program there."""
    home = f"FLWR_HOME={place}/".encode()
    found = []
    for pid in process_table():
        folder = Path(f"/proc/{pid}")
        try:
            # Linux keeps 15 characters of a name.
            named = (folder / "comm").read_text().strip() == program[:15]
            if (named or not program) and home in (folder / "environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":  # what a host in another network namespace is answered
    _host, _authority, *_targets = sys.argv[1:]
    for _target in _targets:
        _port, _path = _target.split(":")
        print(_target, answer(_host, int(_port), "POST", _path, Path(_authority)))
