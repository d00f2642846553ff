"""Whatever is done to a file of a run, a benchmark or a CLIP: a sentence, never a traceback."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip.classifier.loading import load_classifier
from fedrsclip.cli import main
from fedrsclip.report.bench_folder import read_bench
from fedrsclip.report.reading import read_run
from fedrsclip.run.resume import with_resumed
from fedrsclip_core.clip import assets
from fedrsclip_core.clip.weights import weight_files
from fedrsclip_core.config.resolved import from_json, to_json
from fedrsclip_core.config.shared_tensors import SHARED_PROMPT
from fedrsclip_core.data.folders.source import FolderSource
from fedrsclip_core.errors import ConfigError, DataError, FedRSCLIPError, ModelError
from fedrsclip_core.runs import lock, paths
from fedrsclip_core.runs.run_folder import RunFolder
from fedrsclip_core.runs.shared_prompt import SharedPrompt, write_shared_prompt
from server_app.attempts import open_attempt
from server_app.checkpoint import Checkpoint, write_checkpoint
from server_app.phase import Progress
from tests.unit.report import folders
from tests.unit.server.fakes import small_config

pytestmark = pytest.mark.unit

DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    *(None, "", "text", "/etc/passwd", "\x00", "\ud800", "x" * 10**5),
    *(-1, 0, 10**40, -(10**400), True, float("nan"), float("inf"), 1e308),
    *([], {}, [1], [["a"]], {"a": 1}, DEEP),
)
CELLS = ("", "x", "9" * 40, "9" * 5000, "nan", "inf", "-1", "1e308", "\x00", '"', "../x", "é")


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every value inside another; of a list's elements the first two."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield from places(inner, (*path, index))


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


def without(value: Any, path: tuple[str | int, ...]) -> Any:
    changed = copy.deepcopy(value)
    inside = changed
    for step in path[:-1]:
        inside = inside[step]
    del inside[path[-1]]
    return changed


def broken_bytes(whole: bytes) -> Iterator[bytes]:
    yield from (b"", b"\n", whole[: len(whole) // 2], bytes(range(256)) * 9, b"\0" * len(whole))
    yield from (b"[" * 10**5, b'{"a":' * 10**5, b'{"a":' + b"9" * 10**4 + b"}", b"[1]", b"7", b"{}")
    chance = random.Random(len(whole))
    for _ in range(8):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def broken_json(whole: bytes, *, lines: bool) -> Iterator[bytes]:
    rows = whole.splitlines() if lines else [whole]
    # The last round is the one from which the others differ in nothing but figures.
    row = json.loads(rows[-1])
    for path in places(row):
        changes = [replaced(row, path, value) for value in VALUES]
        if path:
            changes.append(without(row, path))
        for changed in changes:
            yield b"\n".join([*rows[:-1], json.dumps(changed).encode()]) + b"\n"


def broken_csv(whole: bytes) -> Iterator[bytes]:
    rows = [line.split(",") for line in whole.decode().splitlines()]
    for row, column in ((r, c) for r in (0, 1, len(rows) - 1) for c in range(len(rows[0]))):
        for cell in CELLS:
            changed = copy.deepcopy(rows)
            changed[row][column] = cell
            yield "\n".join(map(",".join, changed)).encode() + b"\n"


def broken(file: Path) -> list[bytes]:
    whole = file.read_bytes()
    found = list(broken_bytes(whole))
    if file.suffix in (".json", ".jsonl"):
        found += broken_json(whole, lines=file.suffix == ".jsonl")
    elif file.suffix == ".csv":
        found += broken_csv(whole)
    return found


def with_file(file: Path, contents: list[bytes], call: Callable[[], object]) -> None:
    """Call once for each content of a file, and with what is no file in its place."""
    whole = file.read_bytes()
    for content in contents:
        file.write_bytes(content)
        with suppress(FedRSCLIPError):
            call()
    file.unlink()
    with suppress(FedRSCLIPError):
        call()
    file.mkdir()
    with suppress(FedRSCLIPError):
        call()
    file.rmdir()
    file.symlink_to(file)  # nobody can open it, whoever asks
    with suppress(FedRSCLIPError):
        call()
    file.unlink()
    file.write_bytes(whole)


@pytest.fixture
def run() -> Path:
    """A completed run, with what its clients keep."""
    return folders.write_run(paths.home())


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sample(file: Path, number: int) -> list[bytes]:
    """Return some of the ways to break a file, the same in each run of the tests."""
    found = broken(file)
    return random.Random(file.name).sample(found, min(number, len(found)))


def test_status_of_a_damaged_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in files_of(run):
        with_file(file, sample(file, 80), lambda: main(["watch", "--once", run.name]))
        assert capsys.readouterr().out.count("run first") > 60


def test_status_of_a_damaged_run_that_is_running(run: Path) -> None:
    (run / "results.json").unlink()
    with lock.hold(run):
        for file in files_of(run):
            if file.name != ".lock":
                with_file(file, sample(file, 50), lambda: main(["watch", "--once", run.name]))


def test_status_of_a_damaged_benchmark() -> None:
    bench = folders.write_bench(paths.home())
    for file in files_of(bench):
        with_file(file, sample(file, 100), lambda: main(["watch", "--once", bench.name]))


def test_a_folder_in_the_place_of_the_lock(run: Path) -> None:
    (run / ".lock").mkdir()
    assert main(["watch", "--once", run.name]) == 0


def test_report_of_a_damaged_run_or_benchmark(run: Path) -> None:
    bench = folders.write_bench(paths.home())
    places = {run: read_run, paths.home() / "evaluations": read_run, bench: read_bench}
    for folder, read in places.items():
        of = bench if folder == bench else run
        for file in files_of(folder):
            with_file(file, sample(file, 25), lambda read=read, of=of: read(of))  # type: ignore[misc]
        # Drawing takes a second.
        file = max(files_of(folder), key=lambda file: file.stat().st_size)
        file.write_bytes(sample(file, 1)[0])
        main(["report", of.name])


def test_resume_of_a_damaged_run(run: Path) -> None:
    file = run / "run.json"
    with_file(file, sample(file, 400), lambda: with_resumed([f"resume={run.name}"]))


def test_the_server_resumes_no_damaged_run_with_a_traceback() -> None:
    config = small_config(num_rounds=3)
    config.run.name, config.run.resume = "first", True
    folder = RunFolder.named("first")

    def attempt() -> None:
        with open_attempt(config, 8, "", lambda line: None):
            pass

    config.run.resume = False
    attempt()
    config.run.resume = True
    shared = {SHARED_PROMPT: np.zeros((2, 4), np.float32)}
    write_checkpoint(folder, Checkpoint(Progress(1, shared), 0, 1.0))
    for file in files_of(folder.path):
        if file.name != ".lock":
            with_file(file, sample(file, 100), attempt)


def test_a_damaged_shared_prompt_or_clip_is_refused(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    shutil.copytree(assets.demo_clip_folder(), clip)
    prompt = tmp_path / "prompt.safetensors"
    given = SharedPrompt(
        shared={SHARED_PROMPT: np.zeros((2, 128), np.float32)},
        class_names=("harbor", "river"),
        words=("harbor", "river"),
        model="local",
        hub_id="",
        revision="",
        dtype="float32",
        clip="0" * 64,
        templates=(),
        run="first",
        server_round=1,
    )
    write_shared_prompt(prompt, given)

    def load() -> None:
        load_classifier(prompt, clip)

    with pytest.raises(ModelError, match="was trained for another CLIP"):
        load()
    with_file(prompt, broken(prompt), load)
    for file in ("config.json", "preprocessor_config.json"):
        with_file(clip / file, sample(clip / file, 60), load)


@pytest.mark.parametrize("index", ["[]", "7", "{", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_that_is_no_mapping_is_refused(tmp_path: Path, index: str) -> None:
    clip = tmp_path / "clip"
    shutil.copytree(assets.demo_clip_folder(), clip)
    (clip / "model.safetensors").unlink()
    (clip / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"index\.json"):
        weight_files(clip)


@pytest.mark.parametrize("name", ["a\x00b", "\ud800", "x\x1b[2J", "line\nline", "x\u202ey"])
def test_a_class_name_that_cannot_be_printed_is_refused(name: str) -> None:
    for key in ("class_names", "class_words", "class_aliases"):
        config = small_config()
        value: Any = [name] if key == "class_names" else {name: "harbor"}
        setattr(config.data, key, value)
        with pytest.raises(ConfigError, match=rf"data\.{key} has '"):
            from_json(to_json(config))


@pytest.mark.parametrize("name", ["x\x1b[2J", "line\nline", "\udcff", "x\u202ey"])
def test_a_class_folder_whose_name_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "1.png").write_bytes(b"")
    for class_names in ((), ("harbor",)):
        with pytest.raises(DataError, match="give it a name in UTF-8") as refused:
            FolderSource(tmp_path, class_names)
        assert str(refused.value).isprintable()
