"""SuperLink and two SuperNodes with folders of their own; every byte between them is kept.

The connection is insecure on purpose: what TLS would hide must not be there in the first place.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrsclip_core.clip.files import find_clip
from fedrsclip_core.config.compose import compose
from fedrsclip_core.config.overrides import join_overrides
from fedrsclip_core.learning.prompts import initial_prompt
from tests.integration.loopback import Federation, Place
from tests.tiny_clip import make_tiny_clip

CHECKOUT = Path(__file__).parents[2]
"""Submitted as by a bare `flwr run`: the ServerApp composes."""
pytestmark = [
    pytest.mark.integration,
    pytest.mark.flower,
    pytest.mark.timeout(500),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc"),
]

RUN, ROUNDS = "loopback-run", 3
N_CTX, WIDTH, DIM = 4, 512, 24
WINDOW, NUMBER = 16, 8
CLASSES = ("forest", "harbor", "river")
HELD = {"north": CLASSES, "south": ("forest", "harbor")}
MARKS = {name: f"ZZ{name}ZZ" for name in HELD}
OVERRIDES = (
    "federation=loopback",
    f"federation.num_rounds={ROUNDS}",
    "federation.prepare_timeout=200",
    "privacy=deployment",
    "model=local",
    "method=fedrsclip",
    # The tiny CLIP's vocabulary has few words: others need more than n_ctx tokens.
    "prompt.private_init=random",
    "data=folder",
    f"data.class_names=[{','.join(CLASSES)}]",
    "partition=site",
    "optimizer.batch_size=8",
    f"run.name={RUN}",
)


@dataclass
class Outcome:
    """What a run left behind, after all its processes were ended."""

    federation: Federation
    status: dict[str, Any]
    log: str
    left_behind: list[int]

    @property
    def folder(self) -> Path:
        return self.federation.server.home / "runs" / RUN

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").open()]

    @property
    def shared(self) -> np.ndarray:
        return tensors(self.folder / "shared_prompt.safetensors")["shared_prompt"]

    @property
    def said(self) -> list[bytes]:
        """All that came to the server's side: the wire, its files, its output, Flower's log."""
        files = (path for path in self.federation.server.root.rglob("*") if path.is_file())
        taps = self.federation.taps.values()
        streams = [stream for tap in taps for stream in (*tap.up, *tap.down)]
        return [*streams, *(path.read_bytes() for path in files), self.log.encode()]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    root = tmp_path_factory.mktemp("loopback")
    clip = make_tiny_clip(root / "clip", width=WIDTH, dim=DIM, layers=1)
    federation = Federation(root)
    try:
        federation.start_link()
        for partition_id, name in enumerate(HELD):
            start_site(federation, Place(root / f"site-{MARKS[name]}"), name, partition_id, clip)
        run_id = federation.submit(CHECKOUT, join_overrides(OVERRIDES))
        results = federation.server.home / "runs" / RUN / "results.json"
        status = federation.wait(run_id, results)
        log = federation.run_log(run_id)
    finally:
        federation.end()
    yield Outcome(federation, status, log, federation.left_behind())


def start_site(
    federation: Federation, place: Place, name: str, partition_id: int, clip: Path
) -> None:
    """Start a SuperNode with its own images and model; each says in another way where they are."""
    make_images(place, name, HELD[name])
    data = str(place.root / "images")
    model = str(shutil.copytree(clip, place.root / "model"))
    node: dict[str, str | int] = {"partition-id": partition_id, "num-partitions": len(HELD)}
    node["client-name"] = name
    environment = {}
    if name == "north":
        node |= {"data-path": data, "model-path": model}
    else:
        environment = {"FEDRSCLIP_DATA_PATH": data, "FEDRSCLIP_MODEL_PATH": model}
    federation.start_node(name, place, node, environment)


def make_images(place: Place, name: str, classes: Iterable[str], per_class: int = 8) -> None:
    """Write PNG files: each class has its own stripes, each image its own noise and the mark."""
    from PIL import Image

    generator = np.random.default_rng(list(name.encode()))
    mark = np.frombuffer(MARKS[name].encode(), np.uint8)
    for class_name in classes:
        index = CLASSES.index(class_name)
        folder = place.root / "images" / class_name
        folder.mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[:: index + 2, :, index] += 120
            pixels[0, : len(mark), 0] = mark
            Image.fromarray(pixels).save(folder / f"{MARKS[name]}-{number:02d}.png")


def images(place: Place) -> list[Path]:
    found = sorted((place.root / "images").rglob("*.png"))
    assert found
    return found


def tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def private_files(place: Place) -> dict[str, dict[str, np.ndarray]]:
    paths = sorted((place.home / "private").rglob("*.safetensors"))
    return {path.name: tensors(path) for path in paths}


def shared_beside(state: dict[str, np.ndarray]) -> np.ndarray:
    """Take what is shared out of a private file's tensors."""
    return state.pop("shared_prompt")


def shared_start(model: Path) -> np.ndarray:
    """Return the shared prompt as a client with this CLIP begins it."""
    config = compose(OVERRIDES)
    prompt = config.prompt
    files = find_clip(config.model, model)
    return initial_prompt(
        files, prompt.shared_init, prompt.n_ctx, prompt.init_std, "shared", config.seed
    )


def cached_features(place: Place) -> dict[str, np.ndarray]:
    """Return the vectors in a node's feature cache by the sha256 of the image file."""
    (path,) = (place.home / "features").glob("*.sqlite")
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT content, vector FROM features").fetchall()
    finally:
        connection.close()
    return {content.hex(): np.frombuffer(vector, "<f4") for content, vector in rows}


def telling(data: bytes, size: int) -> set[bytes]:
    """Return the pieces of ``size`` bytes that are not nearly constant, as a margin would be."""
    pieces = {data[i : i + size] for i in range(len(data) - size + 1)}
    return {piece for piece in pieces if len(set(piece)) > size // 3}


def found_in(places: Iterable[bytes], pieces: set[bytes], size: int) -> set[bytes]:
    """Return those of the ``pieces``, all of ``size`` bytes, that occur somewhere."""
    found: set[bytes] = set()
    for data in places:
        found.update(
            piece for i in range(len(data) - size + 1) if (piece := data[i : i + size]) in pieces
        )
    return found


def test_the_run_completed_in_flowers_own_words(outcome: Outcome) -> None:
    assert outcome.status["status"] == "finished:completed", outcome.log


def test_three_rounds_in_sequence_with_both_clients(outcome: Outcome) -> None:
    results = json.loads((outcome.folder / "results.json").read_text())
    assert (results["status"], results["reason"]) == ("completed", None)
    assert (results["rounds"], results["num_clients"]) == (ROUNDS, 2)
    assert [client["name"] for client in results["clients"]] == list(HELD)
    assert [client["label_counts"] for client in results["clients"]] == [None, None]
    assert (results["refused"], results["dropped"]["total"]) == ({}, 0)
    assert [record["round"] for record in outcome.records] == list(range(ROUNDS + 1))
    for record in outcome.records[1:]:
        assert record["clients"] == {"asked": 2, "valid": 2, "dropped": {}}
        assert np.isfinite(record["loss"]["loss"])
    total = sum(results["clients"][0][f"num_{part}"] for part in ("train", "val", "test"))
    assert total == len(images(outcome.federation.nodes["north"]))


def test_bytes_of_the_shared_prompt_and_of_a_message(outcome: Outcome) -> None:
    payload = N_CTX * WIDTH * 4
    assert payload == outcome.shared.nbytes == 8192
    for record in outcome.records[1:]:
        rounds = 2 if record["final"] else 1
        down, up = record["bytes"]["down"], record["bytes"]["up"]
        print("round", record["round"], "messages per client:", record["bytes"]["clients"])
        assert down["payload"] == 2 * rounds * payload
        assert up["payload"] == 2 * payload
        for measured in (down, up):
            assert measured["payload"] < measured["message"] < 1.5 * measured["payload"]
    for name, tap in outcome.federation.taps.items():
        print(name, "wire: up", sum(map(len, tap.up)), "down", sum(map(len, tap.down)))


def test_private_prompts_stay_where_they_were_trained(outcome: Outcome) -> None:
    rounds = [f"round-{number:06d}.safetensors" for number in range(1, ROUNDS + 1)]
    files = ["classifier.safetensors", *rounds]
    seen = []
    for name, place in outcome.federation.nodes.items():
        folder = place.home / "private" / "loopback" / RUN / name
        assert sorted(path.name for path in folder.glob("*.safetensors")) == files
        assert all((folder / file).stat().st_mode & 0o777 == 0o600 for file in files)
        assert folder.stat().st_mode & 0o077 == 0
        held = private_files(place)
        assert list(held) == files  # nobody else's
        prompts = [state["private_prompt"] for state in held.values()]
        assert all(prompt.shape == (N_CTX, WIDTH) for prompt in prompts)
        seen += [prompt.tobytes() for prompt in prompts]
    assert len(set(seen)) == 2 * ROUNDS
    server = outcome.federation.server
    assert not (server.home / "private").exists()
    assert not (server.home / "features").exists()
    assert not list(server.root.rglob("private"))


def test_a_node_reads_its_own_images_only(outcome: Outcome) -> None:
    held = {}
    for name, place in outcome.federation.nodes.items():
        own = {hashlib.sha256(path.read_bytes()).hexdigest() for path in images(place)}
        held[name] = own
        assert set(cached_features(place)) == own
        (other,) = MARKS.keys() - {name}
        for path in place.root.rglob("*"):
            if path.is_file():
                assert MARKS[other].encode() not in path.read_bytes(), path
    assert held["north"].isdisjoint(held["south"])


def test_the_shared_prompt_is_seen_on_the_wire(outcome: Outcome) -> None:
    """The control: the search below would find what is there, in both directions."""
    taps = outcome.federation.taps.values()
    start = shared_start(outcome.federation.nodes["north"].root / "model")
    sent = [(outcome.shared, tap.down) for tap in taps]
    sent += [(start, [stream for tap in taps for stream in tap.up])]  # a client proposes it
    for array, streams in sent:
        data = array.tobytes()
        assert len(data) == N_CTX * WIDTH * 4
        assert any(data in stream for stream in streams)
        for size in (WINDOW, NUMBER):
            pieces = telling(data, size)
            assert len(pieces) > 1000
            assert found_in(streams, pieces, size) == pieces
    for name, tap in outcome.federation.taps.items():
        assert any(name.encode() in stream for stream in tap.up)
        assert any(b"shared_prompt" in stream for stream in tap.up)


def test_nothing_private_crosses_the_wire(outcome: Outcome) -> None:
    from PIL import Image

    said = outcome.said
    pieces: set[bytes] = set()
    numbers: set[bytes] = set()
    for name, place in outcome.federation.nodes.items():
        states = private_files(place).values()
        received = b"".join(outcome.federation.taps[name].down)
        # Beside what is private lies what has arrived, and nothing that was made of it here.
        assert all(shared_beside(state).tobytes() in received for state in states)
        private = [array for state in states for array in state.values()]
        features = cached_features(place).values()
        assert len(states) == ROUNDS + 1 and features
        for array in (*private, *features):
            assert not any(array.tobytes() in data for data in said)  # a gate may be short
            pieces |= telling(array.tobytes(), WINDOW)
            # A metric is a float64.
            numbers |= {value.tobytes() for value in array.astype("<f8").ravel()}
        for path in images(place):
            pieces |= telling(path.read_bytes(), WINDOW)
            with Image.open(path) as image:
                pieces |= telling(np.asarray(image).tobytes(), WINDOW)
        # The mark is in each path of the site, in each file's name and in each image.
        assert MARKS[name] in str(place.flower_home)
        assert not any(MARKS[name].encode() in data for data in said)
    assert len(pieces) > 100_000
    # Common to all PNG files.
    pieces = {piece for piece in pieces if b"IHDR" not in piece and b"IEND" not in piece}
    assert found_in(said, pieces, WINDOW) == set()
    assert found_in(said, numbers, NUMBER) == set()


def test_no_process_is_left(outcome: Outcome) -> None:
    assert outcome.left_behind == []
