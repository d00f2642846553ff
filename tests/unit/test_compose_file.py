"""The compose file: who reaches whom, what is kept, what is limited."""

import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedrsclip.deploy.description import describe
from fedrsclip_core.config.compose import compose

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).resolve().parents[2] / "docker"
FILE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ONCE = {"keys", "register", "submit"}
LASTING = sorted(SERVICES.keys() - ONCE)
CLIENTS = range(3)
CLIENTAPPS = [f"clientapp-{gpu}{client}" for gpu in ("", "gpu-") for client in CLIENTS]


def networks(service: str) -> set[str]:
    return set(SERVICES[service].get("networks", ()))


def reached_by(service: str) -> set[str]:
    return {other for other in SERVICES if networks(other) & networks(service)} - {service}


def volumes(service: str) -> dict[str, str]:
    """Mount points and what is mounted there."""
    pairs = (re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text) for text in SERVICES[service]["volumes"])
    return {pair.split(":")[1]: pair.split(":")[0] for pair in pairs}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_reaches_the_proxy_and_nothing_else(client: int) -> None:
    supernode, apps = f"supernode-{client}", {f"clientapp-{client}", f"clientapp-gpu-{client}"}
    assert reached_by(supernode) == {"proxy"} | apps
    for app in apps:
        assert reached_by(app) == {supernode} | (apps - {app})
    for service in (supernode, *apps):
        assert all(FILE["networks"][name] == {"internal": True} for name in networks(service))
        assert "ports" not in SERVICES[service]


def test_only_the_proxy_is_published() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    outside = {name for name, network in FILE["networks"].items() if not network.get("internal")}
    assert {name for name in SERVICES if networks(name) & outside} == {"proxy"}
    # Without a network at all there is no default one either.
    assert [n for n in SERVICES if not networks(n)] == ["keys"]
    assert SERVICES["keys"]["network_mode"] == "none"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert "user" not in service and "privileged" not in service


@pytest.mark.parametrize("name", LASTING)
def test_services_that_last_are_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert "health.py" in " ".join(SERVICES[name]["healthcheck"]["test"])


@pytest.mark.parametrize("name", CLIENTAPPS)
def test_private_prompts_and_features_lie_in_a_clients_own_volumes(name: str) -> None:
    client = name[-1]
    kept = volumes(name)
    home = "/var/lib/fedrsclip"
    assert kept[f"{home}/private"] == f"private-{client}"
    assert kept[f"{home}/features"] == f"features-{client}"
    others = {
        v for n in SERVICES if n[-1] != client and n in CLIENTAPPS for v in volumes(n).values()
    }
    assert others & set(kept.values()) == {"nothing"}
    data = [text for text in SERVICES[name]["volumes"] if f"FEDRSCLIP_DATA_{client}" in text]
    assert len(data) == 1 and data[0].endswith(":ro")


def test_keys_go_to_one_service_each() -> None:
    holders: dict[str, set[str]] = {}
    for name in SERVICES.keys() - {"keys"}:
        assert volumes(name)["/keys"].startswith("keys-")
        assert any(
            text.startswith("keys-") and text.endswith(":/keys:ro")
            for text in SERVICES[name]["volumes"]
        )
        holders.setdefault(volumes(name)["/keys"], set()).add(name)
    assert "keys-authority" not in holders
    shared = {key: names for key, names in holders.items() if len(names) > 1}
    # A client computes on the CPU or on a GPU, not on both.
    assert shared == {
        "keys-admin": {"register", "submit"},
        **{f"keys-clientapp-{c}": {f"clientapp-{c}", f"clientapp-gpu-{c}"} for c in CLIENTS},
    }


def test_each_service_gets_the_keys_that_it_needs() -> None:
    shares = list(
        runpy.run_path(str(FOLDER / "keys.py"))["shares"](describe(["federation=compose"]))
    )
    made = volumes("keys")
    given: dict[str, set[str]] = {}
    for service, _, target in shares:
        assert made[f"/hosts/{service}"] == f"keys-{service}"
        given.setdefault(service, set()).add(target)
    assert {name for name, files in given.items() if "tls/server.key" in files} == {
        "superlink",
        "proxy",
    }
    assert {name for name, files in given.items() if "node" in files} == {
        f"supernode-{client}" for client in CLIENTS
    }
    assert all(given[f"clientapp-{client}"] == {"secret/superexec"} for client in CLIENTS)
    for name in SERVICES.keys() - {"keys"}:
        command = json.dumps(SERVICES[name].get("command", ""))
        used = set(re.findall(r"/keys/([a-z./]+[a-z])", command))
        files = given[volumes(name)["/keys"].removeprefix("keys-")]
        assert used <= files | {file.rpartition("/")[0] for file in files}


def test_transport_is_encrypted_and_nodes_are_known() -> None:
    assert "--enable-supernode-auth" in SERVICES["superlink"]["command"]
    for name in sorted(SERVICES.keys() - set(CLIENTAPPS)):
        # A ClientApp's SuperExec speaks to its own SuperNode on a network of the two.
        assert "--insecure" not in json.dumps(SERVICES[name].get("command", ""))


def test_every_named_volume_and_network_is_declared() -> None:
    named = {source for name in SERVICES for source in volumes(name).values()}
    assert named == set(FILE["volumes"])
    assert {n for name in SERVICES for n in networks(name)} == set(FILE["networks"])


def test_the_federation_describes_these_services() -> None:
    federation = compose(["federation=compose"]).federation
    assert federation.num_clients == len(CLIENTS)
    assert {federation.address, *federation.alt_names} <= SERVICES.keys()
    for client in CLIENTS:
        assert (
            f"num-partitions={federation.num_clients}"
            in SERVICES[f"supernode-{client}"]["command"][2]
        )
        assert SERVICES[f"supernode-{client}"]["environment"]["CLIENT"] == str(client)


def test_gpu_clients_have_one_gpu_each() -> None:
    asked = []
    for client in CLIENTS:
        service = SERVICES[f"clientapp-gpu-{client}"]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert service["profiles"] == ["gpu"] and device["capabilities"] == ["gpu"]
        asked += device["device_ids"]
    assert len(set(asked)) == len(CLIENTS)
    assert SERVICES["clientapp-gpu-0"]["build"]["args"]["TORCH"] == "cuda"


def test_images_have_the_projects_requirements() -> None:
    project = FOLDER.parent / "pyproject.toml"
    found = runpy.run_path(str(FOLDER / "requirements.py"))["requirements"]
    server, client, torch = (set(found(project, image)) for image in ("server", "client", "torch"))
    assert not any(re.match("torch|transformers|datasets|tokenizers", line) for line in server)
    (only,) = torch
    assert only.startswith("torch>=")
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert server | client | torch == {line.replace("[simulation]", "") for line in declared}
