"""LoRA adapters in one file with `lora_down` and `lora_up`, as kohya's scripts write them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dylora_kit.resizing.resize import resize

ATTENTION = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
CONVOLUTION = "lora_unet_down_blocks_0_resnets_0_conv1"
POINTWISE = "lora_unet_mid_block_attentions_0_proj_in"
MIDDLE = "lora_unet_up_blocks_0_resnets_0_conv2"
R = 4
METADATA = {
    "format": "pt",
    "ss_network_module": "networks.lora",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "ss_network_args": json.dumps({"conv_dim": "3", "conv_alpha": "6", "dropout": "0.1"}),
    "ss_tag_frequency": '{"5_dog": {"dog": 12}}',
    "sshs_model_hash": "of the old weights",
}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Three linear layers (one of them 1 × 1), a convolution of 3 × 3, and one of three factors."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        f"{ATTENTION}.lora_down.weight": (R, 12),
        f"{ATTENTION}.lora_up.weight": (9, R),
        f"{TEXT}.lora_down.weight": (R, 7),
        f"{TEXT}.lora_up.weight": (10, R),
        f"{POINTWISE}.lora_down.weight": (R, 6, 1, 1),
        f"{POINTWISE}.lora_up.weight": (8, R, 1, 1),
        f"{CONVOLUTION}.lora_down.weight": (3, 5, 3, 3),
        f"{CONVOLUTION}.lora_up.weight": (6, 3, 1, 1),
        f"{MIDDLE}.lora_down.weight": (3, 5, 1, 1),
        f"{MIDDLE}.lora_mid.weight": (3, 3, 3, 3),
        f"{MIDDLE}.lora_up.weight": (6, 3, 1, 1),
    }
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    alphas = {ATTENTION: 2.0, TEXT: 2.0, POINTWISE: 2.0, CONVOLUTION: 6.0, MIDDLE: 6.0}
    return drawn | {f"{name}.alpha": torch.tensor(alpha) for name, alpha in alphas.items()}


def written(folder: Path, content: Mapping[str, Tensor] | None = None, **texts: str) -> Path:
    path = folder / "style.safetensors"
    save_file(dict(tensors() if content is None else content), path, METADATA | texts)
    return path


def scale(content: Mapping[str, Tensor], name: str) -> float:
    r = len(content[f"{name}.lora_down.weight"])
    return float(content.get(f"{name}.alpha", torch.tensor(float(r)))) / r


def delta(content: Mapping[str, Tensor], name: str) -> Tensor:
    """ΔW as a matrix."""
    down, up = (content[f"{name}.{which}.weight"].double().flatten(1) for which in ("lora_down", "lora_up"))
    return scale(content, name) * up @ down


def closest(matrix: Tensor, b: int) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :b] * s[:b] @ vh[:b]


def texts_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.mark.parametrize("b", [1, 2, 3, R])
def test_every_layer_is_its_closest_cut_at_the_scale_it_had(tmp_path: Path, b: int) -> None:
    before = tensors()
    done = resize(written(tmp_path), tmp_path / "small.safetensors", rank=b)
    after = load_file(tmp_path / "small.safetensors")
    assert after.keys() == before.keys()
    for name in (ATTENTION, TEXT, POINTWISE, CONVOLUTION):
        torch.testing.assert_close(delta(after, name), closest(delta(before, name), b), rtol=0, atol=1e-5)
        assert scale(after, name) == pytest.approx(scale(before, name))
        assert len(after[f"{name}.lora_down.weight"]) == done.after[name] == min(b, 3 if name == CONVOLUTION else R)
    assert done.fixed == [MIDDLE]
    for name in before:
        if name.startswith(MIDDLE):
            assert torch.equal(after[name], before[name])


def test_a_cut_convolution_does_what_the_cut_kernel_does(tmp_path: Path) -> None:
    resize(written(tmp_path), tmp_path / "small.safetensors", rank=2)
    after = load_file(tmp_path / "small.safetensors")
    x = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    down, up = after[f"{CONVOLUTION}.lora_down.weight"], after[f"{CONVOLUTION}.lora_up.weight"]
    kernel = closest(delta(tensors(), CONVOLUTION), 2).float().reshape(6, 5, 3, 3)
    found = scale(after, CONVOLUTION) * F.conv2d(F.conv2d(x, down), up)
    torch.testing.assert_close(found, F.conv2d(x, kernel), rtol=0, atol=1e-4)


def test_the_header_has_the_new_ranks_and_everything_else_but_hashes_of_the_old_weights(tmp_path: Path) -> None:
    resize(written(tmp_path), tmp_path / "small.safetensors", rank=2)
    after = texts_of(tmp_path / "small.safetensors")
    assert after["ss_network_dim"] == "2" and float(after["ss_network_alpha"]) == 1.0
    # the convolutions differ now: one has been cut, one has not
    assert json.loads(after["ss_network_args"]) == {"conv_dim": "Dynamic", "conv_alpha": "Dynamic", "dropout": "0.1"}
    same = METADATA.keys() - {"ss_network_dim", "ss_network_alpha", "ss_network_args", "sshs_model_hash"}
    assert {name: after[name] for name in same} == {name: METADATA[name] for name in same}
    assert "sshs_model_hash" not in after


def test_convolutions_that_agree_have_one_rank_in_the_header(tmp_path: Path) -> None:
    content = {name: tensor for name, tensor in tensors().items() if not name.startswith(MIDDLE)}
    resize(written(tmp_path, content), tmp_path / "small.safetensors", rank=2)
    after = texts_of(tmp_path / "small.safetensors")
    arguments = json.loads(after["ss_network_args"])
    assert arguments["conv_dim"] == "2" and float(arguments["conv_alpha"]) == 4.0
    assert after["ss_network_dim"] == "2" and float(after["ss_network_alpha"]) == 1.0


def test_layers_of_several_ranks_are_called_dynamic(tmp_path: Path) -> None:
    done = resize(written(tmp_path), tmp_path / "small.safetensors", budget=150)
    assert len({done.after[name] for name in (ATTENTION, TEXT, POINTWISE)}) > 1
    after = texts_of(tmp_path / "small.safetensors")
    assert after["ss_network_dim"] == after["ss_network_alpha"] == "Dynamic"
    assert done.parameters_after <= 150


def test_a_file_without_a_header_gets_none_of_kohyas_texts(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "style.safetensors")
    resize(tmp_path / "style.safetensors", tmp_path / "small.safetensors", rank=2)
    assert not [key for key in texts_of(tmp_path / "small.safetensors") if key.startswith("ss")]


def test_header_texts_that_are_no_json_are_kept(tmp_path: Path) -> None:
    resize(written(tmp_path, ss_network_args="none"), tmp_path / "small.safetensors", rank=2)
    assert texts_of(tmp_path / "small.safetensors")["ss_network_args"] == "none"


def test_without_an_alpha_the_scale_is_1_before_and_after(tmp_path: Path) -> None:
    content = {name: tensor for name, tensor in tensors().items() if not name.endswith(".alpha")}
    resize(written(tmp_path, content), tmp_path / "small.safetensors", rank=2)
    after = load_file(tmp_path / "small.safetensors")
    assert not any(name.endswith(".alpha") for name in after)
    torch.testing.assert_close(delta(after, TEXT), closest(delta(content, TEXT), 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_and_the_scale_is_not_rounded(tmp_path: Path, dtype: torch.dtype) -> None:
    content = {name: tensor.to(dtype) for name, tensor in tensors().items()}
    content[f"{ATTENTION}.alpha"] = torch.tensor(10.0, dtype=dtype)
    resize(written(tmp_path, content), tmp_path / "small.safetensors", rank=3)
    after = load_file(tmp_path / "small.safetensors")
    assert {tensor.dtype for name, tensor in after.items() if name.endswith(".weight")} == {dtype}
    assert float(after[f"{ATTENTION}.alpha"]) == 7.5
    torch.testing.assert_close(delta(after, TEXT), closest(delta(content, TEXT), 3), rtol=0, atol=0.03)


def test_other_tensors_are_copied(tmp_path: Path) -> None:
    others = {"lora_unet_soft_prompt.diff": torch.ones(3), "bundle_emb.name.string_to_param": torch.ones(2, 2)}
    resize(written(tmp_path, tensors() | others), tmp_path / "small.safetensors", rank=2)
    after = load_file(tmp_path / "small.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in others.items())


REFUSED: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "no partner": ({f"{TEXT}.lora_up.weight": None}, "lora_down.weight' without .*lora_up.weight'"),
    "DoRA": ({f"{TEXT}.dora_scale": torch.ones(10)}, "dora_scale', as files of DoRA do: only plain LoRA can be cut"),
    "LoHa": ({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, "as files of LoHa do"),
    "LoKr": ({"lora_unet_x.lokr_w1": torch.ones(2, 2)}, "as files of LoKr do"),
    "PEFT": (
        {"unet.x.lora_A.weight": torch.ones(2, 2)},
        "as files of PEFT and diffusers do: pass a folder with adapter_config.json",
    ),
    "NaN": ({f"{TEXT}.lora_up.weight": torch.full((10, R), torch.nan)}, "holds values that are not finite in 'lora_te"),
    "alpha 0": ({f"{TEXT}.alpha": torch.tensor(0.0)}, "alpha' = 0.0: expected a number other than 0"),
    "two alphas": ({f"{TEXT}.alpha": torch.ones(2)}, r"alpha' = \[1.0, 1.0\]: expected a number"),
    "another shape": ({f"{TEXT}.lora_up.weight": torch.ones(10, 3)}, r"in shape \(10, 3\): expected \(r, d_in\)"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_lora_is_refused_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = {name: tensor for name, tensor in (tensors() | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        resize(written(tmp_path, content), tmp_path / "small.safetensors", rank=2)
    assert [path.name for path in tmp_path.iterdir()] == ["style.safetensors"]


def test_a_truncated_file_or_one_without_layers_or_of_another_format_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"style.safetensors is damaged or no safetensors file"):
        resize(path, out, rank=2)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"style.safetensors is damaged or no safetensors file"):
        resize(path, out, rank=2)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(
        ValueError, match=r"holds no layer of a LoRA: expected tensors whose names end with '.lora_down"
    ):
        resize(path, out, rank=2)
    path.rename(tmp_path / "style.ckpt")
    with pytest.raises(ValueError, match=r"style.ckpt is no .safetensors file: others can run code when opened"):
        resize(tmp_path / "style.ckpt", out, rank=2)
    assert not out.exists()


def test_only_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    content = {name: tensor for name, tensor in tensors().items() if name.startswith(MIDDLE)}
    with pytest.raises(ValueError, match="has no layer that can be cut"):
        resize(written(tmp_path, content), tmp_path / "small.safetensors", energy=0.9)


def test_the_result_of_a_file_is_another_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(ValueError, match="is the adapter itself: name another file"):
        resize(path, path, rank=2)
    with pytest.raises(ValueError, match=r"is one file, so the result is one: name a .safetensors file and not"):
        resize(path, tmp_path / "folder", rank=2)
    (tmp_path / "small.safetensors").write_text("old")
    resize(path, tmp_path / "small.safetensors", rank=2)
    resize(tmp_path / "small.safetensors", tmp_path / "new" / "smaller.safetensors", rank=1)
    again = delta(load_file(tmp_path / "new" / "smaller.safetensors"), TEXT)
    torch.testing.assert_close(again, closest(delta(tensors(), TEXT), 1), rtol=0, atol=1e-5)
