"""digits-vit: what it is, how it is loaded and found, and how it is made again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import ViTForImageClassification

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.backbones import pretrain_vit
from dylora_kit.evaluation.metrics import accuracy
from dylora_kit.tasks import digits


@pytest.fixture(scope="module")
def backbone() -> torch.nn.Module:
    return backbones.load("digits-vit")


def score(model: torch.nn.Module, domain: str) -> float:
    data = digits.load(domain).test
    with torch.no_grad():
        return accuracy(model(pixel_values=data.pixel_values).logits.numpy(), data.labels.numpy())


def test_the_backbone_is_small_in_evaluation_mode_and_reads_upright_digits_only(backbone):
    assert not any(module.training for module in backbone.modules())
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(150_000, rel=0.05)
    assert score(backbone, "upright") >= 0.97
    assert score(backbone, "turned") < 0.5
    assert score(backbone, "permuted") < 0.5


def test_the_card_states_the_measured_accuracy_and_the_settings_in_use(backbone):
    card = (backbones.data_folder() / "backbones" / "digits-vit" / "README.md").read_text()
    assert f"{score(backbone, 'upright'):.1%} on 597 test images" in card
    assert json.dumps(pretrain_vit.PRETRAINING) in card
    assert f"{sum(p.numel() for p in backbone.parameters()):,} parameters" in card


def test_the_folder_is_one_that_transformers_reads_by_itself(backbone):
    folder = backbones.data_folder() / "backbones" / "digits-vit"
    model = ViTForImageClassification.from_pretrained(folder)
    for (name, tensor), (other, loaded) in zip(model.state_dict().items(), backbone.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(tensor, loaded)


def test_loading_draws_nothing_and_prints_nothing(capsys):
    torch.manual_seed(2)
    before = torch.get_rng_state()
    backbones.load("digits-vit")
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("call", [backbones.load, backbones.pretrain])
def test_an_unknown_backbone_is_refused(call):
    with pytest.raises(ValueError, match="unknown backbone 'digits-cnn': expected one of 'digits-vit', "):
        call("digits-cnn")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_an_incomplete_folder_says_how_to_rebuild_it(tmp_path, monkeypatch, file):
    folder = tmp_path / "data" / "backbones" / "digits-vit"
    shutil.copytree(backbones.data_folder() / "backbones" / "digits-vit", folder)
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {file}: rebuild it with python -m dylora_kit.backbones digits"):
        backbones.load("digits-vit")


def test_the_data_are_looked_for_where_dylora_kit_home_says(tmp_path, monkeypatch):
    ours = backbones.data_folder()
    assert ours == Path(dk.__file__).parent.parent / "data"
    monkeypatch.setenv("DYLORA_KIT_HOME", "")
    assert backbones.data_folder() == ours
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=f"there is no data folder in {tmp_path}: set DYLORA_KIT_HOME to a clon"
    ):
        backbones.load("digits-vit")
    shutil.copytree(ours / "backbones" / "digits-vit", tmp_path / "data" / "backbones" / "digits-vit")
    assert backbones.data_folder() == tmp_path / "data"
    assert score(backbones.load("digits-vit"), "upright") >= 0.97


def test_pretraining_writes_a_backbone_with_its_card_and_repeats_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_vit, "PRETRAINING", pretrain_vit.PRETRAINING | {"steps": 12})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = backbones.pretrain("digits-vit", tmp_path / "first", progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert backbones.pretrain("digits-vit", tmp_path / "second", progress=False) == first
    assert first.keys() == {"validation", "test"}
    files = ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == files
    assert (tmp_path / "first" / files[2]).read_bytes() == (tmp_path / "second" / files[2]).read_bytes()
    card = (tmp_path / "first" / "README.md").read_text()
    assert json.dumps(pretrain_vit.PRETRAINING) in card
    assert f"{first['test']:.1%} on 597 test images" in card
    model = ViTForImageClassification.from_pretrained(tmp_path / "first").eval()
    assert score(model, "upright") == first["test"]
