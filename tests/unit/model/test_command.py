"""The command line of conversions, and the presets that need one."""

from pathlib import Path

import huggingface_hub.constants
import pytest

from fedrsclip.cli import main
from fedrsclip.model.architecture import activation
from fedrsclip.model.source import Source
from fedrsclip_core.clip.files import find_clip, identify
from fedrsclip_core.config.compose import compose, conf_dir
from fedrsclip_core.errors import ModelError
from tests.unit.model.openclip import recorded, write_folder

pytestmark = pytest.mark.unit

PRESETS = sorted(file.stem for file in (conf_dir() / "model").glob("*.yaml"))
TO_CONVERT = [name for name in PRESETS if compose([f"model={name}"]).model.openclip_file]


def test_a_conversion_says_what_it_took_for_granted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_folder(tmp_path / "source", recorded("vit_b_16")), tmp_path / "clip"
    assert main(["model", "convert", str(source), f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "activation: gelu: open_clip_config.json says so" in said
    assert "images: OpenAI's, for the source says nothing" in said
    assert f"digest: {identify(out).digest}" in said
    assert f"next: model=local model.path={out}" in said
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.pt"], "out is not set"),
        (["x.pt", "out=clip", "activation=silu"], "activation is 'silu': it is one of gelu, quick"),
        (["x.pt", "out=clip", "width=3"], "'width=3' is not understood: give out="),
        (["x.pt", "out=clip"], "nothing at x.pt to convert"),
        (["clip_vit_b32", "out=clip"], "model=clip_vit_b32 needs no conversion"),
    ],
)
def test_what_is_not_understood(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["model", "convert", *words]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "clip").exists()


def test_there_are_presets_to_convert() -> None:
    assert {"remoteclip_vit_b32", "georsclip_vit_b32"} <= set(TO_CONVERT)


@pytest.mark.parametrize("preset", TO_CONVERT)
def test_a_preset_in_openclips_form_has_a_known_activation(preset: str) -> None:
    model = compose([f"model={preset}"]).model
    assert model.name == preset
    assert model.hub_id is not None
    assert model.revision is not None
    assert model.openclip_file is not None
    activation(Source(Path(model.openclip_file), {}), None, None)
    with pytest.raises(ModelError, match=f"`fedrsclip model convert {preset} out=<folder>`"):
        find_clip(model, None)


def test_a_preset_is_downloaded_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = compose(["model=remoteclip_vit_b32"]).model
    folder = write_folder(tmp_path / "source", recorded("vit_b_32_quickgelu"))
    asked = []

    def download(hub_id: str, file: str, *, revision: str | None) -> str:
        asked.append((hub_id, file, revision))
        return str(folder / "open_clip_pytorch_model.bin")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert main(["model", "convert", "remoteclip_vit_b32", "out=clip"]) == 0
    assert asked == [(model.hub_id, model.openclip_file, model.revision)]
    assert "next: model=remoteclip_vit_b32 model.path=" in capsys.readouterr().out


def test_a_preset_out_of_the_hubs_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["model", "convert", "georsclip_vit_b32", "out=clip"]) == 1
    assert (
        "`hf download Zilun/GeoRSCLIP ckpt/RS5M_ViT-B-32.pt --revision" in capsys.readouterr().err
    )
