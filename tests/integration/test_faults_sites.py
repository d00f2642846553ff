"""A running federation meets bad sites, strangers, a cut cable and full disks, much of it at once.

Nine sites apply, four may take part. Of these one sends bad replies, one has a small disk and
processes that die at the worst instants, one is another host whose cable is pulled, and one finds
its private prompt damaged.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fedrsclip.deploy.keys import write_authority, write_server
from fedrsclip.deploy.proxy import Proxy, nginx_conf
from tests.disks import fill, small_disk
from tests.integration import hostile
from tests.integration.deployed import Deployment, free_port
from tests.integration.hostile.sitecustomize import DEATHS, FORGED, KINDS, LARGE
from tests.integration.namespaces import Cable, namespace
from tests.integration.patient import SPARES, Patient
from tests.integration.test_deploy import WANTED
from tests.tiny_clip import make_tiny_clip

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="file systems and hosts of its own need root"),
    *WANTED,
]

MEMBERS = ("north", "east", "south", "west")
REFUSED = ("other-code", "other-config", "other-classes", "other-clip", "other-folder")
ROUND_SECONDS = 25
STATED = "stated"
ROUNDS = {"short": 24, STATED: 30}
CUT_SECONDS = {"short": 70, STATED: 90}
"""Flower holds a node to be connected for 60 seconds after its last sign."""
LONGEST_ROUND = 2 * ROUND_SECONDS + 10
"""On a busy machine; the rest of a reply that has begun to come is awaited for up to 10 more."""
KNOCK_SECONDS = 120
FAKETIME = shutil.which("faketime")
STRANGERS = {
    "the same key": "waiting to be registered: the server does not know this site's key",
    "another authority": "CERTIFICATE_VERIFY_FAILED",
    "an expired certificate": "certificate has expired",
    "-1h": " s behind the server's; Flower refuses",
    "+1h": " s ahead of the server's; Flower refuses",
}
"""Nodes that may not come in, and what each is told."""


@dataclass
class Story:
    """What was seen."""

    patient: Patient
    rounds: int
    seconds: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module", params=["short", pytest.param(STATED, marks=pytest.mark.slow)])
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    root, rounds = tmp_path_factory.mktemp("sites"), ROUNDS[request.param]
    with namespace() as cable, ExitStack() as rooms:
        patient = Patient(
            root,
            "sites",
            (*MEMBERS, *REFUSED),
            "federation.min_clients=4",
            f"federation.num_rounds={rounds}",
            f"federation.round_timeout={ROUND_SECONDS}",
            address=cable.server,
            before={"south": cable.inside},
        )
        story = Story(patient, rounds)
        disks = [patient.deployment.client("east") / "home", patient.deployment.server / "home"]
        try:
            for disk in disks:
                rooms.enter_context(small_disk(disk, "6m"))
            make_others(patient)
            patient.start()
            suffer(story, cable, CUT_SECONDS[request.param], *disks)
            story.seconds["the rest of the run"] = patient.wait_for_end()
            story.records = patient.records()
            story.said |= {name: patient.site_log(name) for name in MEMBERS}
            yield story
        finally:
            patient.deployment.end()
            print(json.dumps(story.seconds, indent=1))
            assert patient.deployment.left_behind() == []


def suffer(story: Story, cable: Cable, cut_seconds: float, disk: Path, server_disk: Path) -> None:
    patient = story.patient
    patient.wait_for("the first round", lambda: len(patient.records()) > 1)
    story.memory.append(peak_memory(patient))
    for name in REFUSED:
        patient.deployment.end_client(name)
    # In the middle of a round, whose deadline comes before Flower gives the site up.
    at_work = lambda: bool(patient.pids("clients/south", "flwr-clientapp"))  # noqa: E731
    patient.wait_for("south is at work", at_work)
    cut, since = time.monotonic(), patient.present_round
    cable.plug("down")
    meet_strangers(story)
    patient.wait_for_drop("south", "", since)
    patient.wait_for("the bad replies", lambda: len(patient.records()) > len(KINDS))
    story.memory.append(peak_memory(patient))
    patient.wait_for("the outage", lambda: time.monotonic() - cut >= cut_seconds)
    story.seconds["the cable was cut for"] = time.monotonic() - cut
    cable.plug("up")
    mended, since = time.monotonic(), patient.present_round
    hurt_two_sites(story, disk)
    fill_the_server(story, server_disk)
    patient.wait_for_round("south is back", lambda record: counted(record, "south"), since)
    story.seconds["the cable is mended: a round of all is over"] = time.monotonic() - mended


def make_others(patient: Patient) -> None:
    """Make sites that may not take part, and one that will send bad replies."""
    deployment = patient.deployment

    def environment(name: str, **values: str) -> None:
        deployment.fill_in(deployment.client(name) / "site.env", values)

    (hooks,) = hostile.__path__
    kinds = {"west": "replies", "east": "deaths"}
    for name, kind in (*kinds.items(), *((n, n.removeprefix("other-")) for n in REFUSED[:3])):
        environment(name, PYTHONPATH=hooks, FEDRSCLIP_TEST_HOSTILE=kind)
    clip = make_tiny_clip(deployment.root / "other", layers=1, seed=1)
    environment("other-clip", FEDRSCLIP_MODEL_PATH=str(clip))
    images = deployment.root / "images-other-folder"
    (images / "forest").rename(images / "volcano")


def peak_memory(patient: Patient) -> int:
    """Return the most bytes that the ServerApp and the SuperLink have had in memory."""
    total = 0
    for program in ("flwr-serverapp", "flower-superlink"):
        (pid,) = patient.pids("server", program)
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        (line,) = (line for line in status if line.startswith("VmHWM:"))
        total += int(line.split()[1]) * 1024
    return total


def meet_strangers(story: Story) -> None:
    """Let nodes knock that must not come in, while the run is running."""
    patient, deployment = story.patient, story.patient.deployment
    start = time.monotonic()
    second = stranger(deployment, "second", key=SPARES[0])
    for script in (second, second.with_name("superexec.sh")):
        deployment.start(script)

    knocking = {"the same key": stranger(deployment, "twin")}
    misled = knocking["another authority"] = stranger(deployment, "misled")
    tls = misled.parent / "tls"
    write_authority(tls / "ca.key", tls / "ca.crt", "another", 10)
    knocking["an expired certificate"] = stranger(deployment, "late")
    point_to(knocking["an expired certificate"], deployment, proxy_with_expired(deployment))
    for script in knocking.values():
        deployment.start(script)
    if FAKETIME is not None:
        for shift, key in (("-1h", SPARES[1]), ("+1h", SPARES[2])):
            script = knocking[shift] = stranger(deployment, f"lost{shift}", key=key)
            deployment.start(script, FAKETIME, "-f", shift)

    refused = "it says it is north, but its key is registered for nobody"
    patient.wait_for("the false north", lambda: refused in patient.run_log())
    story.seconds["a node that says it is another: refused after"] = time.monotonic() - start
    for script in (second, second.with_name("superexec.sh")):
        deployment._trees[script].end()
    deadline = start + KNOCK_SECONDS
    told = lambda who: STRANGERS[who] in deployment.log(knocking[who]).read_text()  # noqa: E731
    while time.monotonic() < deadline and not all(map(told, knocking)):
        time.sleep(0.2)
    for who, script in knocking.items():
        deployment._trees[script].end()
        story.said[who] = deployment.log(script).read_text()


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


def proxy_with_expired(deployment: Deployment) -> int:
    """Start a second proxy whose certificate expires today; return its port."""
    tls, port, ca = deployment.root / "expired", free_port(), deployment.out / "ca"
    files = (tls / "server.key", tls / "server.crt")
    write_server(ca / "ca.key", ca / "ca.crt", *files, [deployment.address], 0)
    proxy = Proxy(str(port), f"127.0.0.1:{deployment.superlink_port}", str(files[1]), str(files[0]))
    (tls / "nginx.conf").write_text(nginx_conf(replace(proxy, authority=str(ca / "ca.crt"))))
    deployment.start(tls / "nginx.conf", "nginx", "-e", "stderr", "-p", str(tls), "-c")
    return port


def point_to(script: Path, deployment: Deployment, port: int) -> None:
    script.write_text(script.read_text().replace(f":{deployment.port} ", f":{port} "))


def hurt_two_sites(story: Story, disk: Path) -> None:
    """Damage north's private prompt between two rounds and fill east's disk; then mend both."""
    patient = story.patient
    idle = lambda: not patient.pids("clients/north", "flwr-clientapp")  # noqa: E731
    patient.wait_for("north is idle", idle)
    newest = patient.private_files("north")[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    story.said["damaged"] = newest.name
    filler, since, start = fill(disk), patient.present_round, time.monotonic()
    patient.wait_for_drop("north", "private-store", since)
    name = "a damaged private prompt: a round without its site is over"
    story.seconds[name] = time.monotonic() - start
    patient.wait_for_drop("east", "disk", since)
    name = "a site's disk is full: a round without it is over"
    story.seconds[name] = time.monotonic() - start
    assert newest.is_file()
    newest.rename(newest.with_suffix(".damaged"))
    filler.unlink()
    since, start = patient.present_round, time.monotonic()
    for site in ("north", "east"):
        patient.wait_for_round(f"{site} is back", lambda r, s=site: counted(r, s), since)  # type: ignore[misc]
    story.seconds["both are mended: a round with them is over"] = time.monotonic() - start


def counted(record: dict[str, Any], name: str) -> bool:
    return name in record["bytes"]["clients"] and name not in record["clients"]["dropped"]


def fill_the_server(story: Story, disk: Path) -> None:
    patient = story.patient
    filler = fill(disk)
    full = "the disk of the run's folder is full (No space left on device): waiting for room"
    name = "the server's disk is full: said after"
    story.seconds[name] = patient.wait_for(name, lambda: full in patient.run_log())
    filler.unlink()
    name = "the server's disk has room: said after"
    story.seconds[name] = patient.wait_for(name, lambda: "room again" in patient.run_log())


def test_the_run_completes_with_its_rounds_in_sequence(story: Story) -> None:
    said = story.patient.run_log()
    assert story.patient.submitted == 0, said
    assert [record["round"] for record in story.records] == list(range(story.rounds + 1))
    assert [client["name"] for client in story.patient.results["clients"]] == list(MEMBERS)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("other-code", "its code differs from the server's"),
        ("other-config", "its config differs from the server's"),
        ("other-classes", "its classes differs from the other clients'"),
        ("other-clip", "its clip differs from the other clients'"),
    ],
)
def test_a_site_with_another_digest_is_refused_by_part(story: Story, name: str, why: str) -> None:
    refused = story.patient.results["refused"]
    print(refused)
    assert refused[name].startswith(why)


def test_a_site_with_an_unknown_class_folder_is_refused(story: Story) -> None:
    refused = story.patient.results["refused"]
    assert len(refused) == len(REFUSED)
    assert "query.identity failed there (data)" in refused.values()
    assert "volcano" not in story.patient.run_log()
    log = story.patient.site_log("other-folder")
    assert "volcano" in log


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("nan", "shared_prompt holds NaN or infinity"),
        ("norm", "the norm of shared_prompt is"),
        ("shape", "shared_prompt is not declared with shape"),
        ("extra", "records are {arrays, metrics, more}"),
        ("names", r"unknown metric '\x1b[2J\nround 99 | test: global 100.0'"),
        ("numbers", "test-total is 1000000000000, but it told "),
    ],
)
def test_a_bad_reply_is_dropped_and_counted(story: Story, kind: str, why: str) -> None:
    dropped = [record["clients"]["dropped"].get("west", "") for record in story.records]
    print(dropped)
    assert kind in KINDS
    assert any(reason.startswith(f"bad-reply: {why}") for reason in dropped)
    counted = story.patient.results["dropped"]["clients"]["west"]["bad-reply"]
    assert counted == sum(reason.startswith("bad-reply") for reason in dropped) >= len(KINDS) - 3


def test_a_far_reply_within_the_bounds_is_shortened_and_named(story: Story) -> None:
    said = story.patient.run_log()
    assert "the update of shared_prompt by client west is " in said
    for record in story.records:
        assert record["test"] is None or record["test"]["images"] < 10**6


def test_what_a_site_sends_steers_no_terminal(story: Story) -> None:
    said = story.patient.run_log()
    assert FORGED[:4] not in said
    assert not any(line.startswith("round 99") for line in said.splitlines())


def test_a_large_reply_is_kept_out(story: Story) -> None:
    before, after = story.memory
    print(f"{before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB at the most")
    assert after - before < LARGE // 2
    state = story.patient.deployment.server / "state"
    kept = sum(file.stat().st_size for file in state.iterdir())
    print(f"{kept / 2**20:.1f} MiB in the SuperLink's state")
    assert kept < LARGE // 4
    log = story.patient.deployment.log(story.patient.deployment.server / "proxy.sh").read_text()
    assert "client intended to send too large" in log
    # Announced, but never there.
    assert "timeout" in {r["clients"]["dropped"].get("west") for r in story.records}


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_are_refused(story: Story, who: str) -> None:
    if who not in story.said:
        pytest.skip("faketime is not installed")
    print(story.said[who][-1500:])
    assert STRANGERS[who] in story.said[who]
    assert "SuperNode ID:" not in story.said[who]


def test_a_process_that_dies_at_the_worst_instant_costs_its_site_one_round(story: Story) -> None:
    dropped = [record["clients"]["dropped"].get("east") for record in story.records]
    print(dropped)
    # One that dies after its reply costs nothing: the run is longer than the minute after which
    # Flower would let another message pay for it.
    lost = [number for number, reason in enumerate(dropped) if reason == "crashed"]
    assert len(lost) == len(DEATHS) - 1
    assert all(counted(story.records[number + 1], "east") for number in lost)
    assert not [reason for reason in dropped if reason and reason not in ("crashed", "disk")]


def test_the_cut_site_is_missed_and_comes_back(story: Story) -> None:
    dropped = [record["clients"]["dropped"].get("south") for record in story.records]
    print(dropped)
    assert {"timeout", "late", "unreachable"} & set(dropped)
    assert counted(story.records[-1], "south")
    assert story.patient.private_files("south")[-1].name == f"round-{story.rounds:06d}.safetensors"


def test_a_round_is_bounded_by_its_deadline(story: Story) -> None:
    seconds = [record["seconds"] for record in story.records]
    print([round(value, 1) for value in seconds])
    assert max(seconds) < LONGEST_ROUND
    # Without a deadline the cut site's round would last until Flower gave it up as unreachable.
    assert "timeout" in {record["clients"]["dropped"].get("south") for record in story.records}


def test_a_damaged_private_prompt_is_named_at_its_site_only(story: Story) -> None:
    assert f"{story.said['damaged']} is refused: " in story.said["north"]
    assert story.said["damaged"] not in story.patient.run_log()


def test_a_full_disk_is_a_sentence(story: Story) -> None:
    patient = story.patient
    log = patient.deployment.client_log("east")
    assert "the log of east cannot be written (No space left on device)" in log
    assert story.patient.results["dropped"]["clients"]["east"]["disk"] >= 1
    assert not list(patient.deployment.out.rglob(".*.tmp"))
