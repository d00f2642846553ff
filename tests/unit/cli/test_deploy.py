"""`fedrsclip deploy`: what is rendered for whom, and what is refused."""

import os
import re
import shlex
import shutil
import sqlite3
import stat
import subprocess
from contextlib import closing
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import pytest

from fedrsclip.cli import main
from fedrsclip.deploy.proxy import Proxy, largest_object, listen_on, nginx_conf
from fedrsclip.run.submission import DEPLOY_KEYS, deployed
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.overrides import quote
from fedrsclip_core.config.schema import FederationConfig

pytestmark = pytest.mark.unit

CLIENTS = ("north", "east", "south")
OVERRIDES = (
    "federation=deployment",
    "privacy=deployment",
    "partition=site",
    "model=local",
    "data=folder",
    "data.class_names=[forest,harbor]",
)
_NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def deploy(out: Path, *overrides: str) -> int:
    return main(["deploy", *OVERRIDES, *overrides, f"out={out}"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    assert deploy(tmp_path / "out") == 0
    return tmp_path / "out"


def scripts(out: Path) -> list[Path]:
    found = sorted([*out.rglob("*.sh"), *out.rglob("start")])
    assert len(found) >= 6 + 5 * len(CLIENTS)
    return found


def test_every_host_has_its_files(out: Path) -> None:
    server = {"start", "superlink.sh", "superexec.sh", "proxy.sh", "proxy/nginx.conf"}
    server |= {"register.sh", "keys.sh", "install-units.sh"}
    expected = {f"server/{name}" for name in server | {"flower.sh", "server.env"}}
    site = ("start", "supernode.sh", "superexec.sh", "check.sh", "site.env", "install-units.sh")
    expected |= {f"clients/{client}/{name}" for client in CLIENTS for name in site}
    expected |= {"admin/flower.sh", "admin/submit.sh", "README.md"}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert expected <= found
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_scripts_are_posix_and_quiet(out: Path) -> None:
    for script in scripts(out):
        text = script.read_text()
        assert text.startswith("#!/bin/sh\n"), script
        assert "\nset -eu\n" in text, script
        assert os.access(script, os.X_OK), script
        checked = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), script
        assert str(out) not in text
        if re.search(r"\b(flwr|flower-\w+|nginx) ", text):
            assert "export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1" in text, script


def test_processes_have_homes_of_their_own(out: Path) -> None:
    homes = re.compile(r'FLWR_HOME="\$here/(.*)"')
    for folder in (out / "server", out / "clients" / "north"):
        texts = [path.read_text() for path in (*folder.glob("*.sh"), *folder.glob("start"))]
        found = [homes.search(text) for text in texts]
        names = [match[1] for match in found if match]
        assert len(names) == len(set(names)) >= 2


def words(script: Path) -> list[str]:
    """The command that a script becomes."""
    (command,) = re.findall(r"^exec (.*)", script.read_text().replace("\\\n", " "), re.MULTILINE)
    return shlex.split(command)


def submitted(out: Path) -> list[str]:
    """The overrides with which the administrator submits."""
    found = words(out / "admin" / "submit.sh")
    options = ("fedrsclip", "submit", "address", "root_certificates", "restarts", "patience")
    assert [word.partition("=")[0] for word in found[: len(options)]] == list(options)
    assert found[-1] == "$@"
    return found[len(options) : -1]


def test_the_superlink_is_protected(out: Path) -> None:
    command = words(out / "server" / "superlink.sh")
    assert command[0] == "flower-superlink"
    options = dict(pairwise(command))
    assert options["--host"] == "127.0.0.1"
    assert options["--isolation"] == "process"
    assert options["--superexec-auth-secret-file"] == "$here/secret/superexec"
    assert options["--database"] == "$here/state/superlink.db"
    assert options["--ssl-keyfile"] == "$here/tls/server.key"
    assert "--enable-supernode-auth" in command
    assert "--disable-runtime-dependency-installation" in command
    assert "--insecure" not in command
    executor = words(out / "server" / "superexec.sh")
    assert executor[executor.index("--root-certificates") + 1] == "$here/tls/ca.crt"


def test_a_supernode_knows_the_server_and_itself(out: Path) -> None:
    command = words(out / "clients" / "east" / "supernode.sh")
    options = dict(pairwise(command))
    assert options["--superlink"] == "fedrsclip.example.org:8443"
    assert options["--node-config"] == 'partition-id=1 num-partitions=3 client-name="east"'
    assert options["--auth-supernode-private-key"] == "$here/keys/east"
    assert options["--isolation"] == "process"
    assert "--insecure" not in command


def test_a_sites_processes_start_warm_and_speak_to_its_own_supernode(out: Path) -> None:
    command = words(out / "clients" / "east" / "superexec.sh")
    assert command[:2] == ["fedrsclip-superexec", "--insecure"]
    assert entry_points(group="console_scripts", name=command[0])
    options = dict(pairwise(command))
    assert options["--runtime-api-address"] == "127.0.0.1:$SUPERNODE_PORT"
    assert options["--superexec-auth-secret-file"] == "$here/secret/superexec"


def test_a_sites_start_keeps_both_programs(out: Path) -> None:
    place = out / "clients" / "east"
    command = words(place / "start")
    assert command[:3] == ["fedrsclip", "site", "start"]
    assert command[3:] == [f"{n}=$here/{n}.sh" for n in ("supernode", "superexec")]
    text = (place / "start").read_text()
    assert "FEDRSCLIP_SERVER='fedrsclip.example.org:8443' FEDRSCLIP_CA=" in text


@pytest.mark.parametrize("name", ["start", "superexec.sh", "check.sh"])
def test_a_site_must_say_where_its_images_are(name: str, out: Path) -> None:
    script = out / "clients" / "north" / name
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "FEDRSCLIP_DATA_PATH" in done.stderr
    assert "site.env" in done.stderr


def test_what_is_submitted_says_nothing_of_the_hosts(out: Path) -> None:
    overrides = submitted(out)
    config = deployed(overrides).config
    default = FederationConfig()
    for key in DEPLOY_KEYS:
        assert getattr(config.federation, key) == getattr(default, key), key
    # Nor is anything shown there that is not as it was given.
    assert not [text for text in overrides if text.startswith("federation.")]
    assert words(out / "clients" / "east" / "check.sh") == ["fedrsclip", "check", *overrides]
    described = compose(OVERRIDES)
    assert config.federation.num_clients == len(described.federation.clients) == 3
    assert config.data == described.data
    assert config.privacy == described.privacy


_VALUES = ("it's in /srv/a b", '$HOME `id` \\ "x"', "")


@pytest.mark.parametrize("host", ["server", "clients/north"])
def test_start_keeps_values_that_are_given(out: Path, host: str) -> None:
    start, name = out / host / "start", "FEDRSCLIP_BIN"
    env = out / host / ("server.env" if host == "server" else "site.env")
    fake = out / "fedrsclip"
    fake.write_text('#!/bin/sh\necho "$FEDRSCLIP_HOME" >"$0.home"\n')
    fake.chmod(0o755)
    needed = [] if host == "server" else ["FEDRSCLIP_DATA_PATH=/d", "FEDRSCLIP_MODEL_PATH=/m"]
    for value in _VALUES:
        command = [start, f"{name}={out}", f"FEDRSCLIP_HOME={value}", *needed]
        subprocess.run(command, check=True, capture_output=True)
        assert fake.with_suffix(".home").read_text()[:-1] == (value or str(out / host / "home"))
        assert env.read_text().count("\nFEDRSCLIP_HOME=") == 1
        assert stat.S_IMODE(env.stat().st_mode) == 0o600
    before = env.read_text()
    for wrong in ("data=/x", "FEDRSCLIP_DAT=/x", "x", "=x", "FEDRSCLIP_.*=/x"):
        done = subprocess.run([start, wrong], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and f"{wrong}: give NAME=value" in done.stderr
    assert env.read_text() == before


def test_the_servers_start_keeps_all_its_programs(out: Path, tmp_path: Path) -> None:
    command = words(out / "server" / "start")
    assert command[:3] == ["fedrsclip", "deploy", "start"]
    pairs = [word.partition("=")[::2] for word in command[3:]]
    programs = ("superlink", "superexec", "proxy", "keys")
    assert [pair for pair in pairs if pair[0] != "needs"] == [
        (n, f"$here/{n}.sh") for n in programs
    ]
    assert next(value for name, value in pairs if name == "needs") == "nginx"
    register = words(out / "server" / "keys.sh")
    assert "keep=true" in register and "clients=north,east,south" in register
    for script in ("register", "keys", "superexec"):
        text = (out / "server" / f"{script}.sh").read_text()
        assert 'export FEDRSCLIP_REGISTRY="$FEDRSCLIP_HOME/registry.json"' in text
    insecure = tmp_path / "insecure"
    assert deploy(insecure, "federation.insecure=true", "federation.address=localhost") == 0
    assert not any("keys" in word for word in words(insecure / "server" / "start"))
    assert "FEDRSCLIP_REGISTRY" not in (insecure / "server" / "superexec.sh").read_text()


def commands_of(readme: str) -> list[str]:
    """Return what a person types until the first round, on all hosts."""
    steps = readme[readme.index("## Until the first round") : readme.index("## What else")]
    blocks = re.findall(r"```sh\n(.*?)\n```", steps, re.DOTALL)
    return [line for block in blocks for line in block.split("\n")]


def test_a_federation_of_three_needs_few_commands(out: Path) -> None:
    commands = commands_of((out / "README.md").read_text())
    rendering = 1
    assert rendering + len(commands) <= 15
    assert commands == [
        "fedrsclip deploy certs out=.",
        "scp -rp server admin fedrsclip.example.org:",
        *(f"scp -rp clients/{name} <host of {name}>:" for name in CLIENTS),
        "server/start",
        *(
            f"{name}/start FEDRSCLIP_DATA_PATH=<folder> FEDRSCLIP_MODEL_PATH=<folder>"
            for name in CLIENTS
        ),
        "admin/submit.sh",
    ]
    for command in commands[-5:]:
        path = command.split()[0]
        assert os.access(out / path, os.X_OK) or os.access(out / "clients" / path, os.X_OK)


def test_a_class_may_be_called_anything(tmp_path: Path) -> None:
    name = "plage \U0001f3d6 'à \\ gauche\""
    assert deploy(tmp_path / "out", f"data.class_names=[{quote(name)},forest]") == 0
    assert compose(submitted(tmp_path / "out")).data.class_names == [name, "forest"]


def test_overrides_of_hosts_do_not_travel(tmp_path: Path) -> None:
    hosts = ["federation.clients=[a,b]", "federation.num_clients=2", "federation.min_clients=2"]
    assert deploy(tmp_path / "out", *hosts, "federation.alt_names=[10.0.0.1]") == 0
    overrides = submitted(tmp_path / "out")
    config = deployed(overrides).config
    assert (config.federation.num_clients, config.federation.clients) == (2, [])
    assert "10.0.0.1" not in " ".join(overrides)


_FAKE_FEDRSCLIP = """#!/bin/sh
printf '%s\\n' "$@" >"$0.words"
exit 7
"""


def test_submitting_is_the_command_with_this_federations_superlink(
    out: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    fake = programs / "fedrsclip"
    fake.write_text(_FAKE_FEDRSCLIP)
    fake.chmod(0o755)
    for host in ("admin", "server"):
        with (out / host / f"{host}.env").open("a") as text:
            text.write(f"FEDRSCLIP_BIN='{programs}'\nRESTARTS='5'\n")
    given = ["run.name=first", "data.class_names=[a b]"]
    done = subprocess.run([out / "admin" / "submit.sh", *given], check=False)
    said = (programs / "fedrsclip.words").read_text().splitlines()
    assert done.returncode == 7
    authority = f"root_certificates={out}/admin/tls/ca.crt"
    assert said[:3] == ["submit", "address=127.0.0.1:8000", authority]
    assert said[3:5] == ["restarts=5", "patience=600"]
    assert said[-2:] == given
    done = subprocess.run([out / "server" / "register.sh"], check=False)
    said = (programs / "fedrsclip.words").read_text().splitlines()
    assert said[:3] == ["deploy", "register", "address=127.0.0.1:8000"]
    assert said[4] == f"keys={out}/server/keys"


def test_units_restart_for_ever(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "units"
    target.mkdir()
    for folder in (out / "server", out / "clients" / "north"):
        command = [folder / "install-units.sh", target]
        subprocess.run(command, capture_output=True, check=True)
    units = {unit.name: unit.read_text() for unit in target.iterdir()}
    assert len(units) == 2
    for name, text in units.items():
        assert name.startswith("fedrsclip-sites-")
        assert "Restart=always" in text
        assert "StartLimitIntervalSec=0" in text
        assert "__" not in text
        (start,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        assert os.access(start, os.X_OK)
    checker = shutil.which("systemd-analyze")
    if checker is not None:
        done = subprocess.run(
            [checker, "verify", *sorted(target.iterdir())],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "fedrsclip" not in done.stderr, done.stderr


def test_rendering_again_keeps_what_people_wrote(out: Path) -> None:
    site = out / "clients" / "north" / "site.env"
    site.write_text("FEDRSCLIP_DATA_PATH=/images\n")
    script = out / "server" / "proxy.sh"
    script.write_text("broken")
    assert deploy(out, "federation.port=9443") == 0
    assert site.read_text() == "FEDRSCLIP_DATA_PATH=/images\n"
    assert "exec nginx" in script.read_text()
    assert "listen 9443 ssl;" in (out / "server" / "proxy" / "nginx.conf").read_text()


def test_rendering_again_deletes_units_of_an_older_version(out: Path) -> None:
    systemd = out / "clients" / "north" / "systemd"
    units = set(systemd.iterdir())
    (systemd / "fedrsclip-sites-north-supernode.service").touch()
    assert deploy(out) == 0
    assert set(systemd.iterdir()) == units


def test_a_client_that_is_gone_is_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fewer = ("federation.clients=[north,east]", "federation.num_clients=2")
    assert deploy(out, *fewer, "federation.min_clients=2") == 0
    assert "clients/south is no client" in capsys.readouterr().out
    assert (out / "clients" / "south").is_dir()


def test_foreign_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for arguments in (["deploy", *OVERRIDES], ["deploy", "certs"], ["deploy", "certs", "seed=1"]):
        assert main([*arguments, f"out={tmp_path}"]) == 1
        assert "was not rendered by" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_another_federation_is_refused(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(out, "federation.name=others") == 1
    assert "holds the federation sites, not others" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("federation.address=https://host", "federation.address"),
        ("federation.address=10.0.0", "federation.address"),
        ("federation.address='host:80'", "federation.address"),
        ("federation.alt_names=[a_b]", "federation.alt_names"),
        ("federation.port=0", "federation.port"),
        ("federation.port=70000", "federation.port"),
        ("federation.superlink_port=8443", "federation.superlink_port"),
        ("federation.clients=[a,b]", "federation.clients"),
        ("federation.clients=[a,a,b]", "federation.clients"),
        ("federation.clients=[a,b,'../c']", "federation.clients"),
        ("federation.clients=[a,b,server]", "federation.clients"),
        ("federation.insecure=true", "federation.insecure_remote"),
        ("data.path=/images", "data.path"),
    ],
)
def test_a_mistake_names_its_key(
    override: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(tmp_path / "out", override) == 1
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_out_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", *OVERRIDES]) == 1
    assert "out is not set" in capsys.readouterr().err


def test_what_is_seldom_meant_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(tmp_path / "out", "privacy=simulation", "partition=uniform") == 0
    said = capsys.readouterr().out
    assert "privacy=deployment" in said
    assert "partition=site" in said


@pytest.mark.parametrize(
    "where", [["federation.address=127.0.0.1"], ["federation.insecure_remote=true"]]
)
def test_insecure_must_be_spelled_out(where: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert deploy(out, "federation.insecure=true", *where) == 0
    superlink = words(out / "server" / "superlink.sh")
    assert "--insecure" in superlink
    assert not any(word.startswith(("--ssl", "--enable")) for word in superlink)
    assert "--insecure" in words(out / "clients" / "north" / "supernode.sh")
    assert not (out / "server" / "register.sh").exists()
    conf = (out / "server" / "proxy" / "nginx.conf").read_text()
    assert "ssl" not in conf
    assert "http://superlink" in conf
    assert "No TLS" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("address", "listens"),
    [
        ("127.0.0.1", "127.0.0.1:8443"),
        ("localhost", "127.0.0.1:8443"),
        ("::1", "[::1]:8443"),
        ("server.example.org", "8443"),
        ("10.0.0.1", "8443"),
        ("2001:db8::1", "[::]:8443 ipv6only=off"),
    ],
)
def test_where_the_proxy_listens(address: str, listens: str) -> None:
    assert listen_on(address, 8443) == listens


def start_superlink(out: Path, folder: Path) -> str:
    """Run the script with a stand-in for Flower; return what it says."""
    stand_in = folder / "bin" / "flower-superlink"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text("#!/bin/sh\necho started in $PWD\n")
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), os.environ["PATH"]])
    script = str(out / "server" / "superlink.sh")
    done = subprocess.run(
        [script], env={"PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_what_large_replies_left_behind_is_given_back_when_the_superlink_starts(
    out: Path, tmp_path: Path
) -> None:
    state = out / "server" / "state"
    assert start_superlink(out, tmp_path) == f"started in {state}\n"
    database = state / "superlink.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE objects (content BLOB)")
        connection.execute("CREATE TABLE nodes (name TEXT)")
        connection.execute("INSERT INTO objects VALUES (zeroblob(10000000))")
        connection.execute("INSERT INTO nodes VALUES ('north')")
        connection.execute("DELETE FROM objects")
        connection.commit()
    assert database.stat().st_size > 9_000_000
    assert start_superlink(out, tmp_path) == f"started in {state}\n"
    assert database.stat().st_size < 100_000
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT name FROM nodes").fetchall() == [("north",)]


def test_a_database_that_cannot_be_made_smaller_does_not_keep_the_superlink_from_starting(
    out: Path, tmp_path: Path
) -> None:
    database = out / "server" / "state" / "superlink.db"
    database.parent.mkdir()
    database.write_bytes(b"no database" * 1000)
    said = start_superlink(out, tmp_path).splitlines()
    assert said == [
        "state/superlink.db was not made smaller",
        f"started in {database.parent}",
    ]
    assert database.read_bytes() == b"no database" * 1000


@pytest.mark.skipif(_NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("insecure", [False, True])
def test_nginx_takes_the_proxy(insecure: bool, tmp_path: Path) -> None:
    assert _NGINX is not None
    out = tmp_path / "out"
    more = ["federation.insecure=true", "federation.insecure_remote=true"] if insecure else []
    assert deploy(out, *more) == 0
    assert main(["deploy", "certs", f"out={out}"]) == 0
    command = [_NGINX, "-t", "-e", "stderr", "-p", out / "server" / "proxy", "-c", "nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "successful" in done.stderr


@pytest.mark.parametrize(("num_classes", "kib"), [(2, 2048), (1000, 6024)])
def test_the_proxy_bounds_what_a_site_sends_by_the_classes(
    num_classes: int, kib: int, tmp_path: Path
) -> None:
    names = ",".join(f"class{number}" for number in range(num_classes))
    assert deploy(tmp_path / "out", f"data.class_names=[{names}]") == 0
    conf = (tmp_path / "out" / "server" / "proxy" / "nginx.conf").read_text()
    assert f"client_max_body_size {kib}k;" in conf
    assert largest_object(num_classes) == kib * 1024


def test_the_proxy_can_stand_elsewhere() -> None:
    text = nginx_conf(
        Proxy("8443", "superlink:8000", "/tls/a.crt", "/tls/a.key", "/tls/ca.crt", "superlink")
    )
    for line in (
        "server superlink:8000;",
        "ssl_certificate /tls/a.crt;",
        "proxy_ssl_trusted_certificate /tls/ca.crt;",
        "proxy_ssl_name superlink;",
    ):
        assert line in text
