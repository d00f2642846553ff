"""What is refused before anything is started: home, names, resumed runs, images, one class."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fedrsclip import machine
from fedrsclip.bench.cells import grid
from fedrsclip.bench.description import describe
from fedrsclip.bench.preparation import prepare as prepare_bench
from fedrsclip.check import check
from fedrsclip.run import home, preflight
from fedrsclip.run.connection import connect, is_here
from fedrsclip.run.decoding import decode_all, decode_some
from fedrsclip.run.home import check_home
from fedrsclip.run.preparation import prepare
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.schema import FederationConfig
from fedrsclip_core.config.site_keys import SITE_KEYS
from fedrsclip_core.config.validation import flattened
from fedrsclip_core.errors import ConfigError, DataError, RunError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.run_folder import COMPLETED, RunFolder
from server_app.attempts import check_start
from tests.run_files import description, results
from tests.unit.data.helpers import make_folder

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _no_site_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in SITE_KEYS.values():
        monkeypatch.delenv(key.variable, raising=False)


def _run(name: str, overrides: list[str], *, status: str | None = None) -> RunFolder:
    """Write what a run of these overrides has left."""
    config = compose([*overrides, f"run.name={name}"])
    folder = RunFolder.named(name)
    folder.path.mkdir(parents=True)
    values = {key: value for key, value in flattened(config) if key not in SITE_KEYS}
    about = description(name, values, " ".join(overrides))
    (folder.path / "run.json").write_text(json.dumps(about))
    if status is not None:
        (folder.path / "results.json").write_text(json.dumps(results(name, status=status)))
    return folder


def test_a_home_that_works_is_left_as_it_was() -> None:
    assert "is writable" in check_home()
    assert list(paths.home().iterdir()) == []


def _file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda: _file(paths.home()), "which is a file: set it to a folder"),
        (lambda: _file(paths.home().parent / "x"), "is writable"),
        (lambda: _file(paths.runs_dir()), "runs is not a folder: move it away"),
        (lambda: _file(paths.features_dir()), "features is not a folder"),
    ],
)
def test_a_home_in_whose_place_is_something_else(spoil: Callable[[], None], words: str) -> None:
    spoil()
    try:
        found = check_home()
    except RunError as error:
        found = str(error)
    assert words in found


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "cannot be written (Read-only file system): set FEDRSCLIP_HOME"),
        (errno.EACCES, "cannot be written (Permission denied)"),
        (errno.ENOSPC, "is full: make room"),
        (errno.EDQUOT, "is full: make room"),
    ],
)
def test_a_home_that_cannot_be_written(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(home, "write_text", refuse)
    with pytest.raises(RunError) as caught:
        prepare([])
    assert words in str(caught.value)


def test_a_home_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "hold", refuse)
    with pytest.raises(
        RunError, match=r"has no locks .*: set FEDRSCLIP_HOME to a folder on a local"
    ):
        check_home()


def test_folders_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    paths.logs_dir().mkdir(parents=True)
    access = home.os.access
    monkeypatch.setattr(home.os, "access", lambda path, mode: path != paths.logs_dir() and access)
    with pytest.raises(RunError, match=r"logs cannot be written .*: it may be another user's"):
        check_home()


@pytest.mark.parametrize(
    ("status", "given", "words"),
    [
        (COMPLETED, [], "a run named first exists already: choose another run.name"),
        (None, [], "a run named first exists already"),
        (COMPLETED, ["run.resume=true"], "run first is completed: there is nothing to resume"),
        (None, ["run.resume=true", "optimizer.lr=0.9"], "was started with optimizer.lr=1.0, now"),
        (None, ["run.name=second", "run.resume=true"], "there is no run second to resume"),
        (None, ["run.name=second", "run.shared_init_from=third"], "is not there: name a run"),
        (COMPLETED, ["run.name=second", "run.shared_init_from=first"], "is not there: name a run"),
        (COMPLETED, ["run.name=second", "run.private_init_from=first"], "is not there: name a run"),
    ],
)
def test_a_run_that_its_server_would_refuse_is_not_started(
    status: str | None, given: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr("fedrsclip.run.superlink.SuperLink.start", started)
    _run("first", ["privacy.share_label_counts=true"], status=status)
    with pytest.raises(RunError) as caught:
        prepare(["run.name=first", *given])
    assert words in str(caught.value)


def test_what_a_server_would_take_is_started() -> None:
    shared = ["privacy.share_label_counts=true"]
    folder = _run("first", shared)
    check_start(compose([*shared, "run.name=first", "run.resume=true"]))
    check_start(compose(["run.name=second"]))
    with folder.hold(), pytest.raises(RunError, match="is running in another process"):
        check_start(compose([*shared, "run.name=first", "run.resume=true"]))


def test_check_says_what_a_run_would_refuse() -> None:
    _run("first", [], status=COMPLETED)
    said: list[str] = []
    small = ["data.images_per_class=3", "federation.num_clients=1"]
    assert check([*small, "run.name=first"], echo=said.append) == 1
    assert [line for line in said if line.startswith("problem")] == [
        "problem  start: a run named first exists already: choose another run.name, or resume it "
        "by run.resume=true"
    ]


def test_broken_images_are_counted_by_reason(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"forest": 10, "river": 10})
    (root / "forest" / "a.png").write_bytes(b"")
    for name in ("b", "c"):
        whole = (root / "forest" / "forest00.png").read_bytes()
        (root / "river" / f"{name}.png").write_bytes(whole[: len(whole) // 2])
    config = compose([f"data.path={root}", "data.max_unreadable=0.2"])
    source = preflight.images_of(config)
    found = decode_all(config, print)
    assert found.startswith("3 of 23 cannot be read: 2 x ") and "1 x is empty" in found
    assert "a.png" in found and "a run leaves them out" in found
    config.data.max_unreadable = 0.05
    with pytest.raises(DataError, match=r"3 of 23 .*data\.max_unreadable=0\.05 allows fewer"):
        decode_all(config, print)
    assert decode_some(source, range(len(source))).startswith(
        "3 of 23 that were tried cannot be read"
    )
    for file in root.rglob("*.png"):
        file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no image of 23 that were tried can be read: 23 x "):
        decode_some(source, range(len(source)))


def test_one_broken_image_stops_no_later_run(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"forest": 12, "river": 12})
    (root / "river" / "z.png").write_bytes(b"")
    overrides = [f"data.path={root}", "federation.num_clients=1", "partition=uniform"]
    assert prepare(overrides).split == prepare(overrides).split


def test_one_class_is_nothing_to_classify(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", {"forest": 10})
    config = preflight.compose_here([f"data.path={root}", "federation.num_clients=1"])
    with pytest.raises(ConfigError, match="'forest' alone: with one class there is nothing"):
        preflight.check_data(config)
    with pytest.raises(ConfigError, match="'forest' alone"):
        compose(["data=folder", "data.class_names=[forest]"])


def test_class_names_need_room_for_a_prompt_only_where_there_is_one(tmp_path: Path) -> None:
    long = "a very long name of a class " * 5
    names = f"data.class_names=['{long}',forest]"
    for method, fits in (("class_offsets", True), ("zero_shot", True), ("promptfl", False)):
        config = compose(["data=folder", names, f"method={method}", "prompt.templates=['{}']"])
        config.prompt.n_ctx = 60
        files = preflight.check_model(config)
        if fits:
            preflight.check_prompts(config, files, config.data.class_names)
            preflight.check_towers(config, files, config.data.class_names)
        else:
            with pytest.raises(ConfigError, match=r"prompt\.n_ctx=60 is too long"):
                preflight.check_prompts(config, files, config.data.class_names)


def test_variables_for_other_runs_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRSCLIP_DATA_PATH", "/images")
    monkeypatch.setenv("FEDRSCLIP_MODEL_PATH", "/clip")
    data, model = preflight.unread_variables(preflight.compose_here([]))
    assert data == "FEDRSCLIP_DATA_PATH is set but not read: data=demo_scenes draws its images"
    assert model == "FEDRSCLIP_MODEL_PATH is set: its CLIP is used instead of model=demo_clip"
    assert preflight.unread_variables(compose(["data=folder", "model=local"])) == []


def test_a_simulation_says_that_it_does_not_read_as_a_site_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert preflight.unread_readings() == []
    monkeypatch.setenv("FEDRSCLIP_DATA_STRETCH", "[0,3000]")
    (line,) = preflight.unread_readings()
    assert line.startswith("FEDRSCLIP_DATA_STRETCH is set but not read") and "data.stretch" in line


@pytest.mark.parametrize(
    ("federation", "gpus", "at_once"),
    [
        (FederationConfig(num_clients=4), 0, 4),
        (FederationConfig(num_clients=40), 0, 8),
        (FederationConfig(num_clients=40, client_cpus=3), 0, 2),
        (FederationConfig(num_clients=40, client_gpus=0.5), 1, 2),
        (FederationConfig(num_clients=40, client_gpus=0.3), 2, 6),
        (FederationConfig(num_clients=40, client_gpus=2), 4, 2),
    ],
)
def test_clients_at_once_are_bounded_by_cpus_and_gpus(
    federation: FederationConfig, gpus: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cpus", lambda: 8)
    monkeypatch.setattr(machine, "available_gpus", lambda: gpus)
    assert machine.clients_at_once(federation) == at_once


@pytest.mark.parametrize(("engine", "fit", "cpus"), [("local", 4, 2), ("flower", 2, 4)])
def test_memory_for_clients_is_looked_at(
    engine: str, fit: int, cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_cpus", lambda: 8)
    federation, weights = FederationConfig(num_clients=8, engine=engine), 600 * 2**20
    fewer = f"they fit {fit} of these, set federation.client_cpus={cpus}"
    for gib, words in ((64, "64.0 GiB"), (4, fewer)):
        monkeypatch.setattr(machine, "available_memory", lambda gib=gib: gib * 2**30)
        assert words in machine.check_memory(federation, weights)
    monkeypatch.setattr(machine, "available_memory", lambda: 2**30)
    with pytest.raises(ConfigError, match="not one fits beside the server"):
        machine.check_memory(federation, weights)
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    assert machine.check_memory(federation, weights) == ""


X86 = {"avx2", "sse4_2"}
CPUS = {
    "AVX2": (X86, "many times slower than float32"),
    "AVX-512": (X86 | {"avx512f", "avx512bw"}, "no faster than float32"),
    "AVX-512 with bfloat16": (X86 | {"avx512bw", "avx512_bf16"}, ""),
    "AMX": (X86 | {"avx512bw", "amx_bf16"}, ""),
    "ARM": ({"asimd", "sve"}, "many times slower than float32"),
    "ARM with bfloat16": ({"asimd", "bf16"}, ""),
    "not known": (set[str](), ""),
}


@pytest.mark.parametrize("name", CPUS)
def test_bfloat16_on_a_cpu_without_it_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, words = CPUS[name]
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    config = compose(["model.dtype=bfloat16"])
    told = machine.slow_bfloat16(config)
    assert bool(told) == bool(words) and words in told and "\n" not in told
    assert machine.slow_bfloat16(compose([])) == ""
    config.federation.device = "cuda"
    assert machine.slow_bfloat16(config) == ""


def test_where_a_gpu_computes_the_cpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: X86)
    monkeypatch.setattr(machine, "available_gpus", lambda: 1)
    config = compose(["model.dtype=bfloat16"])
    assert machine.slow_bfloat16(config)  # a simulation hides the GPU
    assert not machine.slow_bfloat16(config, site=True)
    config.federation.client_gpus = 0.25
    assert not machine.slow_bfloat16(config)


def test_check_run_and_bench_say_that_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: X86)
    given, lines = ["model.dtype=bfloat16", "data.images_per_class=10"], list[str]()
    check(given, echo=lines.append)
    assert next(line for line in lines if "model.dtype is bfloat16" in line).startswith("ok")
    prepare(given, echo=(said := list[str]()).append)
    assert any(line.startswith("model.dtype is bfloat16 but") for line in said)
    description = describe(
        ["bench=demo", "bench.methods=[promptfl]", "bench.reference=null", *given]
    )
    notes = prepare_bench(description, grid(description), {}).notes
    assert len(notes) == 1 and notes[0].startswith("model.dtype is bfloat16 but")


def test_an_odd_home_of_flower_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path / "file")
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"FLWR_HOME is .*, which is a file"):
        connect({"connection": "here"}, tmp_path)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    monkeypatch.setattr("fedrsclip.run.connection.os.access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"FLWR_HOME is .*, which cannot be written"):
        connect({"connection": "here"}, tmp_path)


def test_whether_a_superlink_is_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(
        '[superlink.near]\naddress = "127.0.0.1:8000"\n[superlink.far]\naddress = "fed.org:80"\n'
    )
    here = ["127.0.0.1:8000", "localhost:1", "[::1]:8000"]
    assert all(is_here({"address": address}) for address in here)
    assert not any(
        is_here({"address": address}) for address in ("fed.example.org:8000", "10.0.0.1:1")
    )
    assert is_here({"connection": "near"})
    assert not is_here({"connection": "far"}) and not is_here({"connection": "none"})
