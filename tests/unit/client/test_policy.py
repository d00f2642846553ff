"""What a site lets run: the file's schema, and each of its words against each message."""

from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

import pytest

from client_app import app as client_app
from client_app import runtime as site_runtime
from client_app.policy import Hours, Policy, parse_policy, read_policy, require_allowed
from fedrsclip_core.config.compose import compose
from fedrsclip_core.errors import ConfigError, PolicyError
from fedrsclip_core.runs import paths
from fedrsclip_core.wire.messages import ClientFailure, FailureCode
from fedrsclip_core.wire.records import unpack_identity
from tests.unit.client.site_folder import RUN, Client, shared_prompt

pytestmark = pytest.mark.unit

NOON = datetime(2026, 3, 1, 12, 0)


def test_what_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "federations: [sites, test-*]\nruns: 'r?n'\nmethods: [fedrsclip*]\nmax_rounds: 50\n"
        "max_local_epochs: 2\nshare_label_counts: false\nmin_replies: 3\n"
        "hours: [20:00-06:00, '12:00 - 13:30', 23:00-24:00]\ngpu_memory_share: 0.25\n"
        "allow_submitted_code: true\n",
        encoding="utf-8",
    )
    assert read_policy({"FEDRSCLIP_POLICY": str(path)}) == Policy(
        federations=("sites", "test-*"),
        runs=("r?n",),
        methods=("fedrsclip*",),
        max_rounds=50,
        max_local_epochs=2,
        share_label_counts=False,
        min_replies=3,
        hours=(
            Hours(time(20), time(6)),
            Hours(time(12), time(13, 30)),
            Hours(time(23), time(0)),
        ),
        gpu_memory_share=0.25,
        allow_submitted_code=True,
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_without_a_word_all_but_submitted_code_is_allowed(text: str) -> None:
    assert read_policy({}) == read_policy({"FEDRSCLIP_POLICY": ""}) == parse_policy(text)
    require_allowed(Policy(), compose(["privacy.share_label_counts=true"]), "x", 999, NOON)
    assert not Policy().allow_submitted_code


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("allow_submited_code: true", "it has 'allow_submited_code', but its keys are"),
        ("site.allow_submitted_code: true", "but its keys are"),
        ("allow_submitted_code: 'true'", "must be true or false"),
        ("allow_submitted_code: 1", "must be true or false"),
        ("allow_submitted_code:", "must be true or false"),
        ("allow_submitted_code: false\nallow_submitted_code: true", "it has a key twice"),
        ("runs: []", "runs must be a list of names"),
        ("runs: [1]", "runs must be a list of names"),
        ("runs: {a: b}", "runs must be a list of names"),
        ("runs:", "runs must be a list of names"),
        ("max_rounds: 0", "a whole number, 1 or more"),
        ("max_rounds: 2.5", "a whole number, 1 or more"),
        ("max_rounds: true", "a whole number, 1 or more"),
        ("min_replies: '3'", "a whole number, 1 or more"),
        ("gpu_memory_share: 0", "above 0 and at most 1"),
        ("gpu_memory_share: 1.5", "above 0 and at most 1"),
        ("gpu_memory_share: .nan", "above 0 and at most 1"),
        ("gpu_memory_share: true", "above 0 and at most 1"),
        ("hours: 20-6", "write local time such as 20:00-06:00"),
        ("hours: 20:00-24:30", "write local time such as 20:00-06:00"),
        ("hours: 25:00-26:00", "write local time such as 20:00-06:00"),
        ("hours: 08:00", "must be a list of names or patterns|write local time"),
        ("hours: 08:00-08:00", "is no part of a day"),
        ("hours: 00:00-24:00", "is no part of a day"),
        ("- runs", "must be a mapping of keys"),
        ("runs", "must be a mapping of keys"),
        ("runs: [a", "it is no YAML in line 1"),
        ("runs: !!python/object/apply:os.system ['true']", "it is no YAML in line 1"),
        ("a: &a [*a]", "it has 'a', but its keys are"),
        ("\0", "it is no YAML"),
        ("? [a]\n: b", "it is no YAML"),
    ],
)
def test_a_mistake_is_a_sentence(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as caught:
        read_policy({"FEDRSCLIP_POLICY": str(path)})
    assert str(caught.value).startswith(f"the policy {path} is wrong: ")


@pytest.mark.parametrize("kind", ["missing", "folder", "latin"])
def test_a_file_that_cannot_be_read_is_a_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "latin":
        path.write_bytes("runs: ['größe']".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"cannot be read .*FEDRSCLIP_POLICY names it"):
        read_policy({"FEDRSCLIP_POLICY": str(path)})


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-18:00", ["08:00", "12:00", "17:59"], ["07:59", "18:00", "00:00"]),
        ("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "19:59"]),
        ("22:30-24:00", ["22:30", "23:59"], ["00:00", "22:29"]),
        ("00:00-00:01", ["00:00"], ["00:01", "23:59"]),
    ],
)
def test_hours_may_span_midnight(hours: str, inside: list[str], outside: list[str]) -> None:
    policy, config = parse_policy(f"hours: {hours}"), compose([])
    for clock in (*inside, *outside):
        now = datetime.combine(NOON.date(), time.fromisoformat(clock))
        if clock in inside:
            require_allowed(policy, config, "x", 0, now)
            continue
        with pytest.raises(PolicyError, match=f"it is {clock}"):
            require_allowed(policy, config, "x", 0, now)


REFUSALS = [
    ("federations: [other]", "federations are other, not 'demo'"),
    ("federations: [dem]", "federations are dem, not 'demo'"),
    ("federations: [DEMO]", "federations are DEMO, not 'demo'"),
    ("runs: [run-8, other-*]", f"runs are run-8, other-*, not '{RUN}'"),
    ("methods: [promptfl*]", "methods are promptfl*, not 'fedrsclip'"),
    ("max_rounds: 3", "max_rounds is 3, it wants 4"),
    ("max_local_epochs: 1", "max_local_epochs is 1, it wants 2"),
    ("share_label_counts: false", "share_label_counts is false"),
    ("min_replies: 2", "min_replies is 2, it averages as few as 1"),
    ("hours: 00:00-00:01", "hours are 00:00-00:01, it is 12:00"),
]
ASKING = ("optimizer.local_epochs=2", "privacy.share_label_counts=true")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site.yaml"
    monkeypatch.setenv("FEDRSCLIP_POLICY", str(path))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Clock":  # type: ignore[override]
            return cls(2026, 3, 1, 12, 0)

    monkeypatch.setattr(client_app, "datetime", Clock)
    return path


@pytest.mark.parametrize(("text", "says"), REFUSALS)
def test_a_run_is_refused_in_every_message_before_anything_is_read(
    text: str, says: str, client: Client, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the site was opened")

    monkeypatch.setattr(client_app, "open_runtime", opened)
    policy.write_text(text)
    client.overrides = ASKING
    for ask in (
        *(lambda a=a: client.query(a) for a in ("identity", "prepare", "init")),  # type: ignore[misc]
        lambda: client.train(1, shared_prompt()),
        lambda: client.evaluate(0, shared_prompt()),
    ):
        with pytest.raises(ClientFailure) as caught:
            ask()
        assert caught.value.code == FailureCode.POLICY
    log = (paths.logs_dir() / "client-0.log").read_text(encoding="utf-8")
    assert log.count(f"this site's policy refuses the run '{RUN}': {says}") >= 5
    assert sorted(path.name for path in paths.home().iterdir()) == ["logs"]


def test_a_policy_that_allows_the_run_changes_nothing(client: Client, policy: Path) -> None:
    policy.write_text(
        "federations: [demo]\nruns: [run-*]\nmethods: [fedrsclip]\nmax_rounds: 4\n"
        "max_local_epochs: 2\nmin_replies: 1\nhours: 11:00-13:00\n"
    )
    client.overrides = ASKING
    assert unpack_identity(client.query("prepare").content).label_counts == (3, 3, 3)
    client.train(1, shared_prompt())


def test_a_round_beyond_what_the_configuration_says_is_refused(
    client: Client, policy: Path
) -> None:
    policy.write_text("max_rounds: 4")
    client.train(4, shared_prompt())
    with pytest.raises(ClientFailure) as caught:
        client.train(5, shared_prompt())
    assert caught.value.code == FailureCode.POLICY


def test_a_change_holds_from_the_next_message_on(client: Client, policy: Path) -> None:
    policy.write_text("runs: [run-*]")
    client.query("identity")
    policy.write_text("runs: [other]")
    with pytest.raises(ClientFailure):
        client.query("identity")
    policy.unlink()
    with pytest.raises(ClientFailure) as caught:
        client.query("identity")
    assert caught.value.code == FailureCode.CONFIGURATION


def test_a_server_that_runs_other_code_learns_no_more_than_before(
    client: Client, policy: Path
) -> None:
    policy.write_text("runs: [other]")
    identity = unpack_identity(client.query("identity", code="0" * 64).content)
    assert {part for part, digest in identity.digests.items() if digest} == {"code"}
    assert identity.num_train == 0


@pytest.mark.parametrize(("device", "index"), [("cuda", None), ("cuda:1", 1)])
def test_a_gpu_is_shared_as_the_site_says(
    device: str,
    index: int | None,
    client: Client,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    limits: list[tuple[float, int | None]] = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, at: limits.append((share, at))
    )
    monkeypatch.setattr(site_runtime, "pick_device", lambda _: device)
    policy.write_text("gpu_memory_share: 0.25")
    assert replace(client).runtime.device == device
    assert limits == [(0.25, index)]
