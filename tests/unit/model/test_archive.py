"""TorchScript archives, as OpenAI publishes its CLIPs: read without running their code."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedrsclip.model.archive import is_archive, read_archive
from fedrsclip.model.convert import convert
from fedrsclip_core.errors import ModelError
from tests.unit.model.openclip import recorded, write_folder

pytestmark = pytest.mark.unit


class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Part(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Program(Part):
    def __init__(self, *, quick: bool) -> None:
        super().__init__()
        self.act = QuickGELU() if quick else nn.GELU()
        self.register_buffer("input_resolution", torch.tensor(48))
        self.register_buffer("vocab_size", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x)


def script(state: dict[str, torch.Tensor], file: Path, *, quick: bool) -> Path:
    """Save tensors as the parameters of a program with modules of their names."""
    program = Program(quick=quick)
    for name, tensor in state.items():
        *path, last = name.split(".")
        place: nn.Module = program
        for step in path:
            if not hasattr(place, step):
                place.add_module(step, Part())
            place = getattr(place, step)
        place.register_parameter(last, nn.Parameter(tensor.clone(), requires_grad=False))
    torch.jit.script(program).save(str(file))
    return file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_are_those_of_the_program(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in recorded("vit_b_16").state.items()}
    file = script(state, tmp_path / "clip.pt", quick=True)
    assert is_archive(file)
    read = read_archive(file)
    assert read.keys() == state.keys() | {"input_resolution", "vocab_size"}
    for name, tensor in state.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], tensor)


def test_an_archive_is_the_clip_of_its_state_dict(tmp_path: Path) -> None:
    one = recorded("vit_b_32_quickgelu")
    plain = convert(write_folder(tmp_path / "plain", one), tmp_path / "expected")
    folder = write_folder(tmp_path / "archive", one)
    script(one.state, folder / "open_clip_pytorch_model.bin", quick=True)
    made = convert(folder, tmp_path / "clip")
    assert made.files.digest == plain.files.digest


def test_the_activation_of_the_program_counts(tmp_path: Path) -> None:
    one = recorded("vit_b_16")  # whose configuration says GELU
    folder = write_folder(tmp_path / "source", one)
    script(one.state, folder / "open_clip_pytorch_model.bin", quick=True)
    with pytest.raises(ModelError, match=r"the archive's program uses it \(quickgelu\)"):
        convert(folder, tmp_path / "clip")
    script(one.state, folder / "open_clip_pytorch_model.bin", quick=False)
    assert convert(folder, tmp_path / "clip").activation.startswith("gelu")


class Surprise:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("surprise"),))


class Built:
    """An object whose state would be set by a function of the file's choice."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("__import__('pathlib').Path('surprise').touch()",))


def altered(file: Path, change: Callable[[str, bytes], bytes | None], *, compressed: bool) -> None:
    """Write an archive's entries again as ``change`` makes them; ``None`` leaves one out."""
    with zipfile.ZipFile(file) as opened:
        entries = {name: opened.read(name) for name in opened.namelist()}
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as opened:
        for name, data in entries.items():
            if (new := change(name, data)) is not None:
                opened.writestr(name, new)


@pytest.mark.parametrize("value", [Surprise(), {"a": [Built()]}])
def test_code_in_the_data_is_refused_and_not_run(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = script({"visual.proj": torch.ones(2, 2)}, tmp_path / "clip.pt", quick=True)
    data = pickle.dumps(value, protocol=2)
    altered(file, lambda n, old: data if n.endswith("/data.pkl") else old, compressed=False)
    with pytest.raises(ModelError, match=r"without running its code .*it asks for"):
        read_archive(file)
    assert not Path("surprise").exists()


@pytest.mark.parametrize(
    ("change", "compressed"),
    [
        (lambda n, old: None if n.endswith("/data/0") else old, False),
        (lambda n, old: old[:-2] if n.endswith("/data/0") else old, False),
        (lambda n, old: old[: len(old) // 2] if n.endswith("/data.pkl") else old, False),
        (lambda n, old: None if n.endswith("/data.pkl") else old, False),
        (lambda n, old: old, True),
    ],
    ids=["no tensor", "short tensor", "half a pickle", "no pickle", "compressed"],
)
def test_damaged_archives(
    change: Callable[[str, bytes], bytes | None], compressed: bool, tmp_path: Path
) -> None:
    file = script({"visual.proj": torch.ones(2, 2)}, tmp_path / "clip.pt", quick=True)
    altered(file, change, compressed=compressed)
    with pytest.raises(ModelError, match="cannot be read without running its code"):
        read_archive(file)


def test_a_state_dict_is_no_archive(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "state.pt")
    assert not is_archive(tmp_path / "state.pt")
