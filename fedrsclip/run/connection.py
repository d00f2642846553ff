"""A SuperLink, spoken to by Flower's own command, ``flwr``."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import tomli_w

from fedrsclip import machine
from fedrsclip.deploy.addresses import is_loopback
from fedrsclip_core.errors import ConfigError, RunError
from fedrsclip_core.runs import paths

WHERE = ("connection", "address", "root_certificates", "insecure")
"""Options of a command that say where the SuperLink is."""

_NAME = "fedrsclip"
_SUBMIT_SECONDS = 120
_CALL_SECONDS = 40  # Flower's command gives up after 30
_NO_SUCH_RUN = re.compile(r"\brun id (?:\d+ )?not found", re.IGNORECASE)
_LISTING = (sys.executable, "-m", f"{__package__}.flower_internals")
_COLOURING = ("FORCE_COLOR", "TTY_COMPATIBLE")


@dataclass(frozen=True)
class RunStatus:
    """What Flower says of a run.

    Attributes
    ----------
    status : str
        ``pending``, ``running``, ``finished:completed``, ...; empty if it could not be asked.
    details : str
        Why.
    """

    status: str
    details: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.status.startswith("finished")

    @property
    def completed(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "finished:completed"

    @property
    def failed(self) -> bool:
        """Whether the run ended early, and nobody stopped it."""
        return self.status == "finished:failed"

    @property
    def unknown(self) -> bool:
        """Whether the SuperLink has answered that it has no such run."""
        return not self.status and _NO_SUCH_RUN.search(self.details) is not None


class Node(TypedDict):
    """A SuperNode as the SuperLink knows it.

    Flower's own command says neither names nor keys.

    Attributes
    ----------
    node_id : int
        Its id, which stays with its key.
    name : str
        The name with which it was registered; empty without one.
    key : str
        Its public key as the first two words of an OpenSSH file; empty without one.
    status : str
        ``registered``, ``online``, ``offline`` or ``unregistered``.
    online_at, offline_at : str
        When it came or went last, ISO 8601; empty if it never did.
    """

    node_id: int
    name: str
    key: str
    status: str
    online_at: str
    offline_at: str


class Connection:
    """A connection of Flower's configuration.

    Parameters
    ----------
    name : str
        Its name in Flower's ``config.toml``.
    folder : Path
        Scratch folder; also the working directory of Flower's command.
    environment : Mapping[str, str]
        The whole environment of Flower's command.
    flwr : str, optional
        The command itself; without it, the one beside this Python.
    """

    def __init__(
        self, name: str, folder: Path, environment: Mapping[str, str], *, flwr: str | None = None
    ) -> None:
        self.name = name
        self._folder = folder
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._flwr = machine.program("flwr") if flwr is None else flwr

    def submit(self, app: Path, run_config: Mapping[str, str], federation: str = "") -> str:
        """Submit an app and return the run's id.

        Parameters
        ----------
        app : Path
            Folder of the app.
        run_config : Mapping[str, str]
            The run's configuration.
        federation : str
            Settings of Flower's simulation.

        Raises
        ------
        RunError
            With Flower's own words if it refuses.
        """
        config = self._folder / "run-config.toml"
        config.write_text(tomli_w.dumps(dict(run_config)), encoding="utf-8")
        arguments = ["run", str(app), self.name, "-c", str(config)]
        if federation:
            arguments += ["--federation-config", federation]
        try:
            answer = parse(self._call([*arguments, "--format", "json"], _SUBMIT_SECONDS))
        except subprocess.TimeoutExpired:
            raise RunError(f"Flower accepted no run within {_SUBMIT_SECONDS} seconds") from None
        if not answer.get("run-id"):
            raise RunError(f"Flower refused the run: {_words(answer)}")
        return str(answer["run-id"])

    def status(self, run_id: str) -> RunStatus:
        """Ask for a run's status and wait for the answer."""
        try:
            return run_status(self._call(_status_of(run_id, self.name), _CALL_SECONDS))
        except subprocess.TimeoutExpired:
            return RunStatus("", f"no answer in {_CALL_SECONDS} s")

    def ask_status(self, run_id: str) -> "subprocess.Popen[str]":
        """Begin to ask for a run's status; :func:`run_status` reads the answer."""
        return self._begin(_status_of(run_id, self.name))

    def answers(self) -> bool:
        """Whether the SuperLink answers."""
        with suppress(subprocess.TimeoutExpired):
            arguments = ["ls", self.name, "--limit", "1", "--format", "json"]
            return bool(parse(self._call(arguments, _CALL_SECONDS)).get("success"))
        return False

    def stream_log(self, run_id: str) -> "subprocess.Popen[bytes]":
        """Begin to read a run's log from its start; ends with the run, or with the SuperLink."""
        return subprocess.Popen(
            [self._flwr, "log", run_id, self.name],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    def log(self, run_id: str) -> str:
        """Return what a run has logged, as far as it can be had."""
        with suppress(subprocess.TimeoutExpired):
            return self._call(["log", run_id, self.name, "--show"], timeout=20)
        return ""

    def stop(self, run_id: str, timeout: float = _CALL_SECONDS) -> None:
        """Ask Flower to stop a run.

        Raises
        ------
        RunError
            With Flower's own words if it does not.
        """
        try:
            answer = parse(self._call(["stop", run_id, self.name, "--format", "json"], timeout))
        except subprocess.TimeoutExpired:
            raise RunError(f"Flower did not stop the run within {timeout:.0f} seconds") from None
        if not answer.get("success"):
            raise RunError(f"Flower did not stop the run: {_words(answer)}")

    def nodes(self) -> list[Node]:
        """Return what the SuperLink knows of each SuperNode.

        Raises
        ------
        RunError
            With Flower's own words if it does not answer.
        """
        try:
            answer = parse(self._call_program([*_LISTING, self.name], _CALL_SECONDS))
        except subprocess.TimeoutExpired:
            raise RunError(
                f"the SuperLink {self.name} did not answer in {_CALL_SECONDS} s: is it running, "
                "and does its address in Flower's config.toml fit?"
            ) from None
        if not answer.get("success"):
            raise RunError(f"Flower lists no nodes of {self.name}: {_words(answer)}")
        return list(answer["nodes"])

    def register(self, key: Path, name: str) -> int:
        """Register a SuperNode's public key and return the id of its node.

        Raises
        ------
        RunError
            With Flower's own words if it refuses.
        """
        arguments = ["register", str(key), self.name, "--name", name]
        answer = self._about_node(arguments, f"register {name}")
        return int(answer["node-id"])

    def unregister(self, node_id: int) -> None:
        """Shut a SuperNode out.

        Raises
        ------
        RunError
            With Flower's own words if it refuses.
        """
        self._about_node(["unregister", str(node_id), self.name], f"unregister {node_id}")

    def _about_node(self, arguments: Sequence[str], what: str) -> dict[str, Any]:
        try:
            words = ["supernode", *arguments, "--format", "json"]
            answer = parse(self._call(words, _SUBMIT_SECONDS))
        except subprocess.TimeoutExpired:
            raise RunError(f"Flower did not {what} in {_SUBMIT_SECONDS} s") from None
        if not answer.get("success"):
            raise RunError(f"Flower does not {what}: {_words(answer)}")
        return answer

    def _call(self, arguments: Sequence[str], timeout: float) -> str:
        return self._call_program([self._flwr, *arguments], timeout)

    def _call_program(self, command: Sequence[str], timeout: float) -> str:
        with self._begin_program(command) as process:
            try:
                return process.communicate(timeout=timeout)[0]
            except BaseException:
                process.kill()
                raise

    def _begin(self, arguments: Sequence[str]) -> "subprocess.Popen[str]":
        return self._begin_program([self._flwr, *arguments])

    def _begin_program(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A Ctrl-C at the terminal is ours to handle.
            start_new_session=True,
        )


def flower_environment() -> dict[str, str]:
    """Return the environment of Flower's programs: this one, quiet towards the network."""
    return {
        # With one of these Flower's JSON has colours in it, which is no JSON.
        **{name: v for name, v in os.environ.items() if name not in _COLOURING},
        "PATH": machine.script_folders(),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def connect_to(address: str, folder: Path, *, root_certificates: Path | None) -> Connection:
    """Return a connection that stands in no configuration of the user's.

    Parameters
    ----------
    address : str
        Host and port.
    folder : Path
        Scratch folder, which must outlive the connection.
    root_certificates : Path or None
        The authority's certificate; ``None``: no TLS.
    """
    home = folder / "flwr"
    home.mkdir(exist_ok=True)
    settings: dict[str, object] = {"address": address}
    if root_certificates is None:
        settings["insecure"] = True
    else:
        settings["root-certificates"] = str(root_certificates)
    written = {"superlink": {"default": _NAME, _NAME: settings}}
    (home / "config.toml").write_text(tomli_w.dumps(written), encoding="utf-8")
    return Connection(_NAME, folder, flower_environment() | {"FLWR_HOME": str(home)})


def connect(options: Mapping[str, str], folder: Path) -> Connection:
    """Return the connection that a command's :data:`WHERE` describe.

    Raises
    ------
    ConfigError
        If they describe none, or two.
    """
    given = {name: value for name, value in options.items() if name in WHERE}
    if given.keys() == {"connection"}:
        _check_flower_home()
        return Connection(given["connection"], folder, flower_environment())
    secure = given.keys() == {"address", "root_certificates"}
    if secure or given == {"address": given.get("address"), "insecure": "true"}:
        certificates = (
            paths.place(given["root_certificates"], "root_certificates") if secure else None
        )
        if certificates is not None and not certificates.is_file():
            raise ConfigError(f"root_certificates={certificates} is not there")
        resolved = None if certificates is None else certificates.resolve()
        return connect_to(given["address"], folder, root_certificates=resolved)
    raise ConfigError(
        "say where the SuperLink is: connection=<a name in Flower's config.toml>, or "
        "address=<host:port> with root_certificates=<file>, or with insecure=true for no TLS"
    )


def is_here(options: Mapping[str, str]) -> bool:
    """Whether the SuperLink that a command's options describe is dialled on this machine."""
    address = options.get("address") or _address_of(options.get("connection", ""))
    host = address.rpartition(":")[0].strip("[]")
    return is_loopback(host)


def _address_of(name: str) -> str:
    """Return the address of a connection in Flower's configuration, empty if it has none."""
    try:
        settings = tomllib.loads((_flower_home() / "config.toml").read_text(encoding="utf-8"))
        return str(settings["superlink"][name]["address"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""  # Flower's own command says what is wrong


def _check_flower_home() -> None:
    """Refuse a ``FLWR_HOME`` at which Flower's command would fail with a traceback.

    Raises
    ------
    ConfigError
        If it is a file, or cannot be written.
    """
    home = _flower_home()
    if home.exists() and not home.is_dir():
        raise ConfigError(f"FLWR_HOME is {home}, which is a file: set it to Flower's folder")
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"FLWR_HOME is {home}, which cannot be written: set it to a folder that can, with your "
            "config.toml in it"
        )


def _flower_home() -> Path:
    return paths.place(os.environ.get("FLWR_HOME") or str(Path.home() / ".flwr"), "FLWR_HOME")


def run_status(output: str) -> RunStatus:
    """Read the answer to :meth:`Connection.ask_status`."""
    answer = parse(output)
    runs = answer.get("runs") or []
    if not runs:
        return RunStatus("", _words(answer))
    details = str(runs[0].get("status-details", ""))
    return RunStatus(str(runs[0]["status"]), "" if details == "N/A" else details)


def parse(text: str) -> dict[str, Any]:
    """Return the JSON object in a command's output, which may have warnings around it."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        return dict(json.loads(text[begin : end + 1]))
    except ValueError:
        return {"error-message": text}


def _status_of(run_id: str, name: str) -> list[str]:
    return ["ls", name, "--run-id", run_id, "--format", "json"]


def _words(answer: Mapping[str, Any]) -> str:
    """Return Flower's last paragraph, in which it says what is wrong."""
    paragraphs = str(answer.get("error-message", answer)).split("\n\n")
    telling = [text for text in paragraphs if text.strip() and "flower.ai/docs" not in text]
    return " ".join(telling[-1].split()) if telling else "without a word"
