"""Who may take part in a run, and what those are told who may not."""

import json

import pytest

from fedrsclip_core.config.schema import Config
from fedrsclip_core.runs.fileio import sha256_of
from fedrsclip_core.wire.messages import PROTOCOL_VERSION, QUERY_IDENTITY, QUERY_PREPARE, TRAIN
from tests.unit.server.fake_runs import failed, go, raise_failure, raise_secret
from tests.unit.server.fakes import DIM, WIDTH, Fakes, small_config

pytestmark = pytest.mark.unit


def digests_of(config: Config) -> dict[str, str]:
    from tests.unit.server.fakes import identity

    return dict(identity(0, config).digests)


@pytest.mark.parametrize("part", ["clip", "classes", "split"])
def test_a_client_with_another_digest_is_refused_by_part(part: str) -> None:
    fakes = Fakes(small_config(num_rounds=1))
    honest = fakes.config
    fakes.identities[0] = {"digests": digests_of(honest) | {part: sha256_of("odd")}}
    lines: list[str] = []
    outcome = go(fakes, lines, deployed=True)
    assert outcome.results["refused"].keys() == {"client-0"}
    assert f"its {part} differs" in outcome.results["refused"]["client-0"]
    assert len(outcome.results["clients"]) == 2
    assert any(f"client client-0 is refused: its {part}" in line for line in lines)


def test_a_site_without_a_split_digest_is_welcome() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[0] = {"digests": digests_of(fakes.config) | {"split": ""}}
    assert go(fakes).results["refused"] == {}


@pytest.mark.parametrize(("part", "word"), [("code", "code"), ("config", "configuration")])
def test_stale_code_in_a_simulation_names_the_daemon(part: str, word: str) -> None:
    fakes = Fakes(small_config())
    fakes.identities[2] = {"digests": digests_of(fakes.config) | {part: sha256_of("stale")}}
    failed(fakes, f"another {word} than the server.*flower-superlink")


def test_other_code_in_a_deployment_refuses_that_client() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[2] = {"digests": digests_of(fakes.config) | {"code": sha256_of("old")}}
    outcome = go(fakes, deployed=True)
    assert "its code differs from the server's" in outcome.results["refused"]["client-2"]


def test_another_protocol_and_other_sizes_are_refused() -> None:
    fakes = Fakes(small_config(num_rounds=1, num_clients=8, min_clients=1), num_clients=8)
    fakes.identities[0] = {"protocol": PROTOCOL_VERSION + 1}
    fakes.identities[1] = {"width": WIDTH + 1}
    fakes.identities[2] = {"dim": DIM + 1}
    fakes.identities[3] = {"num_classes": 4, "label_counts": ()}
    refused = go(fakes, deployed=True).results["refused"]
    assert f"protocol {PROTOCOL_VERSION + 1}" in refused["client-0"]
    assert f"text width is {WIDTH + 1}" in refused["client-1"]
    assert f"projection size is {DIM + 1}, the others' is {DIM}" in refused["client-2"]
    assert "number of classes is 4, the others' is 3" in refused["client-3"]


def test_a_size_of_nothing_is_refused() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[1] = {"num_classes": 0, "label_counts": ()}
    refused = go(fakes, deployed=True).results["refused"]
    assert "number of classes is 0" in refused["client-1"]


def test_double_names_and_partitions_are_refused() -> None:
    fakes = Fakes(small_config(num_rounds=1, num_clients=5, min_clients=1), num_clients=5)
    fakes.identities[1] = {"client_name": "client-0"}
    fakes.identities[3] = {"partition_id": 2}
    outcome = go(fakes, deployed=True)
    refused = outcome.results["refused"]
    assert {"client-0", "client-2", "client-3"} <= refused.keys()
    assert "2 clients have this name" in refused["client-0"]
    assert "partition-id 2" in refused["client-2"]
    assert [client["name"] for client in outcome.results["clients"]] == ["client-4"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../x", "client-name is '../x'"),
        ("\x1b[2Jround 99 | global 100.0", r"client-name is '\x1b[2Jround 99"),
        ("a\nround 99", r"'a\nround 99'"),
        ("\u202eknurc", r"'\u202eknurc'"),
        ("x" * 900_000, "characters)'"),
    ],
)
def test_an_unusable_client_name_is_refused_and_cannot_steer_a_terminal(
    name: str, shown: str
) -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[0] = {"client_name": name}
    lines: list[str] = []
    outcome = go(fakes, lines, deployed=True)
    assert shown in outcome.results["refused"]["node 0"]
    for text in (*lines, (outcome.folder / "results.json").read_text()):
        assert all(sign.isprintable() or sign == "\n" for sign in text)
        assert len(text) < 10_000


def test_what_only_a_site_without_images_may_leave_out_is_asked_of_the_others() -> None:
    fakes = Fakes(small_config(num_rounds=1))
    fakes.identities[0] = {"digests": digests_of(fakes.config) | {"clip": ""}}
    assert "its clip differs" in go(fakes, deployed=True).results["refused"]["client-0"]


def test_too_few_clients_end_the_run_with_their_reasons() -> None:
    fakes = Fakes(
        small_config(min_clients=3),
        scripts={(QUERY_PREPARE, 1): raise_failure, (QUERY_IDENTITY, 2): raise_secret},
    )
    lines: list[str] = []
    results = failed(fakes, r"2 clients can take part, the run needs 3", lines)
    assert "internal" in results["reason"]
    assert "secret" not in json.dumps(results)


def test_a_client_that_cannot_prepare_is_left_out() -> None:
    fakes = Fakes(small_config(num_rounds=1), scripts={(QUERY_PREPARE, 1): raise_failure})
    outcome = go(fakes, deployed=True)
    assert "query.prepare failed there (private-store)" in outcome.results["refused"]["client-1"]
    assert {p for _, p, _, _ in fakes.seen} == {0, 2}


def test_a_simulation_does_not_go_on_without_one_of_its_clients() -> None:
    fakes = Fakes(
        small_config(min_clients=1), num_clients=2, scripts={(QUERY_PREPARE, 1): raise_failure}
    )
    results = failed(fakes, r"1 clients can take part, the run needs 2 .client-1: .*private-store")
    assert results["initial"] is None
    assert TRAIN not in {kind for kind, *_ in fakes.seen}


def test_another_number_of_nodes_than_configured_is_said() -> None:
    lines: list[str] = []
    go(Fakes(small_config(num_rounds=1), num_clients=2), lines)
    assert any("num_clients is 3, but 2 clients are there" in line for line in lines)
