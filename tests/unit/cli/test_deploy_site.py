"""What a site's scripts say before anything is sent."""

import re
import subprocess
import sys
from dataclasses import fields
from datetime import time
from pathlib import Path

import pytest

from client_app.policy import Hours, Policy, parse_policy
from fedrsclip.cli import main
from tests.unit.cli.dated import HOUR, server

pytestmark = pytest.mark.unit

FEDRSCLIP = f"""#!/bin/sh
exec "{sys.executable}" -m fedrsclip.cli "$@"
"""
SUPERNODE = """#!/bin/sh
echo "started $*"
"""


def deploy(out: Path, *overrides: str) -> Path:
    """Render a federation on this machine; return the folder of its only client."""
    here = ["federation=deployment", "federation.address=127.0.0.1", "federation.clients=[north]"]
    few = [f"federation.{name}=1" for name in ("num_clients", "min_clients", "min_replies")]
    assert main(["deploy", *here, *few, *overrides, f"out={out}"]) == 0
    return out / "clients" / "north"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("fedrsclip", FEDRSCLIP), ("fedrsclip-supernode", SUPERNODE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def run(script: Path, programs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    with (script.parent / "site.env").open("a") as text:
        text.write(f"FEDRSCLIP_BIN='{programs}'\n")
    return subprocess.run([script, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("ahead", "words"), [(HOUR, "behind"), (-HOUR, "ahead of"), (0.0, "")])
@pytest.mark.parametrize("secure", [False, True])
def test_a_supernode_says_that_its_clock_is_wrong(
    secure: bool, ahead: float, words: str, tmp_path: Path, programs: Path
) -> None:
    out = tmp_path / "out"
    insecure = f"federation.insecure={not secure}".lower()
    deploy(out, insecure)
    assert main(["deploy", "certs", f"out={out}"]) == 0
    with server(ahead=ahead, tls=out / "server" / "tls" if secure else None) as address:
        place = deploy(out, insecure, f"federation.port={address.rpartition(':')[2]}")
        done = run(place / "supernode.sh", programs)
    assert done.returncode == 0
    assert done.stdout.startswith("started --")
    assert len(done.stdout.splitlines()) == 1
    assert len(done.stderr.splitlines()) == bool(words)
    if words:
        assert f"s {words} the server's" in done.stderr


def test_a_supernode_without_a_server_starts_silently(tmp_path: Path, programs: Path) -> None:
    place = deploy(tmp_path / "out", "federation.insecure=true", "federation.port=1")
    done = run(place / "supernode.sh", programs)
    assert (done.returncode, done.stderr) == (0, "")
    assert "started" in done.stdout


@pytest.mark.parametrize("ahead", [0.0, -HOUR])
def test_a_site_checks_itself(ahead: float, tmp_path: Path, programs: Path) -> None:
    with server(ahead=ahead) as address:
        port = f"federation.port={address.rpartition(':')[2]}"
        place = deploy(tmp_path / "out", "federation.insecure=true", "partition=site", port)
        done = run(place / "check.sh", programs)
    found = {line.split()[1].rstrip(":"): line.split()[0] for line in done.stdout.splitlines()}
    assert done.returncode == (1 if ahead else 0), done.stdout
    assert found["clock"] == ("problem" if ahead else "ok")
    assert found["policy"] == found["run"] == "ok"
    assert "only installed code runs here" in done.stdout
    assert found["home"] == found["model"] == found["data"] == found["prompts"] == "ok"


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("allow_submitted_code: 'no'", "allow_submitted_code must be true or false"),
        ("methods: [promptfl]", "methods are promptfl, not 'fedrsclip_plus'"),
        (None, "site.yaml cannot be read (No such file or directory)"),
    ],
)
def test_a_site_that_would_refuse_the_run_is_told(
    policy: str | None, says: str, tmp_path: Path, programs: Path
) -> None:
    with server() as address:
        port = f"federation.port={address.rpartition(':')[2]}"
        place = deploy(tmp_path / "out", "federation.insecure=true", "partition=site", port)
        if policy is None:
            (place / "site.yaml").unlink()
        else:
            (place / "site.yaml").write_text(policy)
        done = run(place / "check.sh", programs)
    assert done.returncode == 1
    assert says in done.stdout


def test_the_policy_is_the_sites_and_kept(tmp_path: Path) -> None:
    place = deploy(tmp_path / "out")
    rendered = parse_policy((place / "site.yaml").read_text())
    assert rendered == Policy(federations=("sites",))
    scripts = {path.name: path.read_text() for path in place.iterdir() if path.suffix == ".sh"}
    named = {name for name, text in scripts.items() if 'POLICY="$here/site.yaml"' in text}
    assert named == {"superexec.sh", "check.sh"}
    (place / "site.yaml").write_text("runs: [ours]\n")
    deploy(tmp_path / "out")
    assert (place / "site.yaml").read_text() == "runs: [ours]\n"


def test_every_line_of_the_rendered_policy_is_one_that_can_be_said(tmp_path: Path) -> None:
    text = (deploy(tmp_path / "out") / "site.yaml").read_text()
    # An example that is commented out begins right after its sign.
    said = re.sub(r"^#(?! )", "", text, flags=re.MULTILINE)
    assert parse_policy(said).hours == (Hours(time(20), time(6)),)
    assert {item.name for item in fields(Policy)} == set(
        re.findall(r"^#?([a-z_]+):", text, re.MULTILINE)
    )


def test_a_site_shows_what_it_answered(tmp_path: Path, programs: Path) -> None:
    place = deploy(tmp_path / "out")
    assert "has no journal" in run(place / "log.sh", programs).stderr


def test_a_site_looks_at_its_own_private_files(tmp_path: Path, programs: Path) -> None:
    place = deploy(tmp_path / "out")
    done = run(place / "fedrsclip.sh", programs, "private", "list")
    assert done.returncode == 0
    assert f"has private files in {place / 'home' / 'private'}" in done.stdout
