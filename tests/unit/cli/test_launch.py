"""What a launcher reads, writes and refuses, without starting anything."""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from client_app.site_log import SiteLog
from fedrsclip import machine
from fedrsclip.run import flower, launch, preflight, preparation
from fedrsclip.run.connection import RunStatus
from fedrsclip.run.own_tuning import write_table
from fedrsclip.run.resume import with_resumed
from fedrsclip.run.site_logs import SiteLogs
from fedrsclip_core.config.compose import compose, from_run_config
from fedrsclip_core.config.schema import Config, FederationConfig
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.errors import ConfigError
from fedrsclip_core.runs import paths
from fedrsclip_core.runs.run_folder import STOPPED, Follower, RunFolder
from tests.run_files import description, results
from tests.unit.core.hub_cache import NEW, OLD, cache_hub_model, move_newest
from tests.unit.data.helpers import make_folder, save_image

pytestmark = pytest.mark.unit


@pytest.fixture
def no_preflight(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Let model and data pass, with the given class names."""

    def use(class_names: list[str]) -> None:
        monkeypatch.setattr(preflight, "check_for_simulation", lambda config: class_names)
        monkeypatch.setattr(preflight, "data_notes", lambda config: [])
        split = {"clients": [], "num_images": 4}
        monkeypatch.setattr(preparation, "split_record", lambda config, hashes: split)

    for variable in (key.variable for key in SITE_KEYS.values()):
        monkeypatch.delenv(variable, raising=False)
    return use


def values_of(config: Config) -> dict[str, object]:
    return {key: value for key, value in flattened(config) if key not in SITE_KEYS}


def test_failures_of_clients_are_collected_from_their_logs() -> None:
    SiteLog("client-000").failure("train", ConfigError("an old story"))
    logs = SiteLogs(paths.logs_dir())
    log = SiteLog("client-000")
    log.failure("query.prepare", ConfigError("no room left"))
    log.write("round 1\n  x failed: inside a traceback\nnotes failed: without a time")
    SiteLog("client-001").failure("query.prepare", ConfigError("no room left"))
    SiteLog("north").failure("train", ConfigError("no client of a simulation"))
    assert logs.failures() == ["client-000: no room left"]


def test_a_failure_is_found_in_a_log_that_was_full() -> None:
    log = SiteLog("client-000", max_bytes=4000)
    log.write("x" * 3900)
    logs = SiteLogs(paths.logs_dir())
    log.failure("train", ConfigError("no room left"))
    log.write("y" * 3900)
    assert logs.failures() == ["client-000: no room left"]


def test_resume_takes_what_the_run_was_started_with() -> None:
    folder = paths.runs_dir() / "first"
    folder.mkdir(parents=True)
    overrides = "data=folder 'data.class_names=[a,b]' seed=3 run.name=first optimizer.lr=0.2"
    (folder / "run.json").write_text(json.dumps(description("first", {}, overrides)))
    assert with_resumed(["seed=1", "resume=first", "data.path=x"]) == [
        "data=folder",
        "data.class_names=[a,b]",
        "optimizer.lr=0.2",
        "seed=1",
        "data.path=x",
        "run.name=first",
        "run.resume=true",
    ]
    assert with_resumed(["seed=1"]) == ["seed=1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no run gone to resume"), ("{", "damaged"), ("{}", "damaged")],
)
def test_resume_of_what_is_not_there_is_said(content: str | None, said: str) -> None:
    folder = paths.runs_dir() / "gone"
    if content is not None:
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        with_resumed(["resume=gone"])


def test_site_keys_stay_and_class_names_travel(
    no_preflight: Callable[[list[str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_preflight(["a class", "it's"])
    monkeypatch.chdir(tmp_path)
    simulation = preparation.prepare(["data=folder", "data.path=images", "seed=3"])
    submission = simulation.submission
    assert not any("data.path" in text for text in submission.run_config().values())
    assert simulation.environment["FEDRSCLIP_DATA_PATH"] == str(tmp_path / "images")
    assert simulation.environment["FEDRSCLIP_MODEL_PATH"] == ""
    assert Path(simulation.environment["FEDRSCLIP_HOME"]).is_absolute()
    assert submission.config.data.class_names == ["a class", "it's"]
    assert submission.config.data.path is None
    assert submission.config.seed == 3


def test_a_second_start_opens_no_image(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"beach": 8, "lake": 8})
    overrides = ["data=folder", f"data.path={root}", "partition=uniform"]
    overrides.append("federation.num_clients=2")
    with opened_below(root) as first:
        split = preparation.prepare(overrides).split
    assert len(set(first)) == 16
    with opened_below(root) as second:
        assert preparation.prepare(overrides).split == split
    assert second == []
    save_image(root / "lake" / "lake03.png", seed=99)
    with opened_below(root) as third:
        assert preparation.prepare(overrides).split["images"] != split["images"]
    assert set(third) == {str(root / "lake" / "lake03.png")}


@contextmanager
def opened_below(root: Path) -> Iterator[list[str]]:
    """Note which files below a folder are opened."""
    opened: list[str] = []
    watching = True

    def note(event: str, values: tuple[object, ...]) -> None:
        if watching and event == "open" and str(values[0]).startswith(f"{root}{os.sep}"):
            opened.append(str(values[0]))

    sys.addaudithook(note)  # there is no taking it back
    yield opened
    watching = False


def test_a_users_own_tuning_travels_with_a_run_and_is_said(
    no_preflight: Callable[[list[str]], None],
) -> None:
    no_preflight([])
    recipe = ["experiment=uc_merced", "method=fedotp", "model=demo_clip", "data.path=images"]
    recorded = preparation.prepare([*recipe, "run.name=first"]).submission
    write_table(paths.tuned_file(), {"uc_merced": {"fedotp": {"optimizer.lr": 0.25}}})
    lines: list[str] = []
    own = preparation.prepare(recipe, echo=lines.append).submission
    assert (own.config.optimizer.lr, own.config.optimizer.private_lr) == (0.25, 0.6)
    assert {"tuned=null", "optimizer.lr=0.25"} <= set(own.overrides)
    assert any("optimizer.lr=0.25" in one and str(paths.tuned_file()) in one for one in lines)
    assert preparation.prepare([*recipe, "optimizer.lr=1"]).submission.config.optimizer.lr == 1
    given = preparation.prepare([*recipe, "tuned=recorded", "run.name=first"]).submission
    assert given.config == recorded.config
    folder = paths.runs_dir() / "first"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps(description("first", values_of(recorded.config), shlex.join(recorded.overrides)))
    )
    resumed = preparation.prepare(["resume=first", "data.path=images"]).submission.config
    assert resumed.optimizer == recorded.config.optimizer


def test_a_run_gets_a_name_unless_it_has_one(no_preflight: Callable[[list[str]], None]) -> None:
    no_preflight([])
    first = preparation.prepare(["method=local"]).submission.name
    second = preparation.prepare(["method=local"]).submission.name
    assert first.startswith("local-demo_scenes-20")
    assert first != second
    assert preparation.prepare(["run.name=mine"]).submission.name == "mine"


def test_a_run_records_the_commit_of_its_model_and_resumes_with_it(
    no_preflight: Callable[[list[str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_preflight([])
    cache_hub_model(tmp_path, monkeypatch, newest=OLD)
    started = preparation.prepare(["model.hub_id=owner/clip", "run.name=first"])
    assert started.found_revisions == {"model.revision": OLD}
    overrides = " ".join(started.submission.overrides)
    assert started.submission.config.model.revision == OLD
    folder = paths.runs_dir() / "first"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps(description("first", values_of(started.submission.config), overrides))
    )
    move_newest(tmp_path, NEW)
    resumed = preparation.prepare(["resume=first"])
    assert resumed.found_revisions == {}
    assert resumed.submission.config.model.revision == OLD
    assert preparation.prepare(["model.hub_id=owner/clip"]).submission.config.model.revision == NEW
    given = preparation.prepare(["model.hub_id=owner/clip", f"model.revision={NEW}"])
    assert given.found_revisions == {}


@pytest.mark.parametrize("model", ["clip_vit_b16", "clip_vit_b32"])
def test_packaged_models_of_the_hub_are_pinned(model: str) -> None:
    assert re.fullmatch("[0-9a-f]{40}", compose([f"model={model}"]).model.revision or "")


def test_the_environment_serves_where_no_override_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_DATA_PATH", "/elsewhere")
    assert preflight.compose_here(["data=folder"]).data.path == "/elsewhere"
    assert preflight.compose_here(["data=folder", "data.path=/here"]).data.path == "/here"
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        preflight.compose_here(["data=folder", "data.path=null"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=folder"], "data.path is not set"),
        (["data=hub"], "data.hub_id is not set"),
        (["model=local"], "model.path is not set"),
    ],
)
def test_a_missing_site_key_is_named(
    overrides: list[str], words: str, no_preflight: Callable[[list[str]], None]
) -> None:
    with pytest.raises(ConfigError, match=words):
        preflight.compose_here(overrides)


def test_site_partition_is_not_for_a_simulation() -> None:
    config = compose(["data=uc_merced", "partition=site"])
    with pytest.raises(ConfigError, match="partition=site"):
        preflight.check_for_simulation(config)


def test_more_than_the_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cpus", lambda: 2)
    monkeypatch.setattr(machine, "available_gpus", lambda: 0)
    machine.check_resources(FederationConfig(client_cpus=2))
    with pytest.raises(ConfigError, match=r"federation\.client_cpus is 3 .* 2 CPUs"):
        machine.check_resources(FederationConfig(client_cpus=3))
    with pytest.raises(ConfigError, match=r"federation\.client_gpus is 0\.25 .* no CUDA device"):
        machine.check_resources(FederationConfig(client_gpus=0.25))
    with pytest.raises(ConfigError, match="hides the GPU"):
        machine.check_resources(FederationConfig(device="cuda"))
    monkeypatch.setattr(machine, "available_gpus", lambda: 1)
    machine.check_resources(FederationConfig(client_gpus=0.25, device="cuda"))


@pytest.mark.parametrize(
    ("written", "details", "said"),
    [
        ({"reason": "too few clients"}, "exit code 1", "too few clients"),
        ({"reason": STOPPED}, "Simulation failed with exception: no heartbeat", "no heartbeat"),
        ({"reason": STOPPED}, "", STOPPED),
        (None, "", "finished:failed"),
    ],
)
def test_the_reason_of_a_failure_is_the_most_telling_one(
    tmp_path: Path, written: dict[str, str] | None, details: str, said: str
) -> None:
    log = tmp_path / "flower.log"
    log.write_text("INFO : nothing\n")
    follower = Follower(RunFolder(tmp_path))
    if written is not None:
        (tmp_path / "results.json").write_text(
            json.dumps(results("first", status="failed", **written))
        )
    failure = flower.failure_of(RunStatus("finished:failed", details), follower, log)
    assert (failure.reason, failure.ray_was_slow) == (said, False)


class Links:
    """Stands for SuperLinks on which Ray is too slow some times; then the run completes."""

    def __init__(self, slow: int) -> None:
        self._slow = slow
        self.submitted: list[Config] = []
        self.ended = 0
        self.running = True

    def __call__(self, folder: Path, environment: object) -> "Links":
        self.log = folder / "superlink.log"
        return self

    def start(self) -> SimpleNamespace:
        return SimpleNamespace(submit=self._submit, log=lambda run_id: "")

    def check(self) -> None:
        """Live."""

    def end(self) -> None:
        self.ended += 1

    def _submit(self, app: Path, run_config: dict[str, str], settings: str) -> str:
        self.submitted.append(from_run_config(run_config, simulation=True))
        folder = RunFolder.named("first")
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_description(description("first", {}))
        late = "Exception: The current node timed out during startup. This could happen because"
        self.log.write_text(late if self.is_slow else "INFO : nothing\n")
        folder.write_results(
            results("first", status="failed", reason=STOPPED) if self.is_slow else results("first")
        )
        return "1"

    @property
    def is_slow(self) -> bool:
        return len(self.submitted) <= self._slow

    def follow(self, *_: object, **__: object) -> RunStatus:
        words = "Simulation failed with exception: An error was encountered. Ending simulation."
        return RunStatus(*(("finished:failed", words) if self.is_slow else ("finished:completed",)))


@pytest.mark.parametrize(("slow", "starts", "status"), [(0, 1, 0), (2, 3, 0), (9, 3, 1)])
def test_a_run_whose_ray_is_too_slow_is_started_again_a_few_times(
    no_preflight: Callable[[list[str]], None],
    monkeypatch: pytest.MonkeyPatch,
    slow: int,
    starts: int,
    status: int,
) -> None:
    no_preflight(["beach", "lake"])
    links, said = Links(slow), list[str]()
    monkeypatch.setattr(flower, "SuperLink", links)
    monkeypatch.setattr(flower, "follow", links.follow)
    overrides = ["data=folder", "data.path=images", "run.name=first", "federation.engine=flower"]
    assert launch.run(overrides, echo=said.append) == status
    assert links.ended == len(links.submitted) == starts
    # Its server has taken the run's folder before Ray gave up.
    assert [config.run.resume for config in links.submitted] == [False, True, True][:starts]
    assert sum("starting the run again" in line for line in said) == starts - 1
    assert any(f"the run failed: {flower.RAY_WAS_SLOW}" in line for line in said) == bool(status)


@pytest.mark.parametrize("completed", [True, False])
def test_an_interrupted_run_is_called_what_it_is(
    completed: bool, no_preflight: Callable[[list[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have come to its end while it was being stopped; nobody asks Flower to stop it."""
    no_preflight(["beach", "lake"])
    links, said = Links(0 if completed else 9), list[str]()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flower, "SuperLink", links)
    monkeypatch.setattr(flower, "follow", interrupted)
    overrides = ["data=folder", "data.path=images", "run.name=first", "federation.engine=flower"]
    if completed:
        assert launch.run(overrides, echo=said.append) == 0
        assert "the run was completed before it could be interrupted" in said
        assert said[-1] == f"results: {RunFolder.named('first').path}"
    else:
        with pytest.raises(KeyboardInterrupt):
            launch.run(overrides, echo=said.append)
        assert not any("completed" in line for line in said)
    assert "stopping the run" in said and links.ended == 1


def test_ray_gets_no_more_room_than_there_are_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "available_cpus", lambda: 64)
    config = compose(["federation.num_clients=3", "federation.client_cpus=2"])
    settings = flower.simulation_settings(config.federation).split()
    assert "init-args-num-cpus=6" in settings
    assert "num-supernodes=3" in settings
    assert "client-resources-num-gpus=0.0" in settings
