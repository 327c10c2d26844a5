"""`dk.extract`: the LoRA in a fully fine-tuned model, against the singular value decomposition of its difference."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build, inputs, logits
from models import TARGETS, Net, batch
from torch import Tensor, nn
from toys import assert_same, state_of

import dylora_kit as dk

R = 3


def two(seed: int = 0, changed: tuple[str, ...] = ("first.weight", "second.weight", "third.weight")) -> tuple[Net, Net]:
    """A base, and a copy whose parameters of these names are others."""
    torch.manual_seed(seed)
    base = Net()
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for name in changed:
            weight = tuned.get_parameter(name)
            weight.add_(0.3 * torch.randn(weight.shape))
    return base, tuned


def cut(delta: Tensor, b: int) -> Tensor:
    u, s, vh = torch.linalg.svd(delta.double(), full_matrices=False)
    return ((u[:, :b] * s[:b]) @ vh[:b]).float()


def test_every_rank_is_the_closest_cut_of_the_difference() -> None:
    base, tuned = two()
    plain = copy.deepcopy(base)
    model, adapters = dk.extract(base, tuned, R, target_modules=TARGETS)
    assert model is base is adapters.model
    assert (adapters.r, adapters.rank, adapters.scaling) == (R, R, "alpha/r")
    for name in TARGETS:
        delta = tuned.get_submodule(name).weight - plain.get_submodule(name).weight
        for b in range(1, R + 1):
            torch.testing.assert_close(adapters.delta(name, b), cut(delta, b), rtol=1e-5, atol=1e-6)
    assert dk.ordering(adapters)["score"].min() > 1 - 1e-6
    assert not any(p.requires_grad for name, p in base.named_parameters() if "lora_" not in name)
    assert_same(state_of(adapters.detach()), state_of(plain))


def test_at_full_rank_it_is_the_tuned_model() -> None:
    base, tuned = two(changed=("first.weight", "third.weight", "classifier.weight", "classifier.bias"))
    wanted = tuned(batch())
    model, adapters = dk.extract(base, tuned, 12, target_modules=TARGETS, modules_to_save=["classifier"], lora_alpha=5)
    torch.testing.assert_close(model(batch()), wanted, rtol=1e-5, atol=1e-5)
    assert not adapters.layers["second"].lora_B.any()
    adapters.rank = 1
    assert not torch.allclose(model(batch()), wanted, atol=1e-2)


@pytest.mark.parametrize("name", ["gpt2", "phi3", "llama"])
def test_all_linear_layers_of_a_real_architecture(name: str) -> None:
    base, tuned = build(name), build(name)
    changed = [key for key, p in tuned.named_parameters() if p.dim() == 2 and "attn" in key]
    with torch.no_grad():
        for key in changed:
            weight = tuned.get_parameter(key)
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(key))))
    wanted = logits(tuned, inputs(name))
    model, adapters = dk.extract(base, tuned, 32, target_modules="all-linear")
    torch.testing.assert_close(logits(model, inputs(name)), wanted, rtol=1e-4, atol=1e-4)
    assert adapters.r == 32


def test_outputs_of_a_fused_projection_without_an_adapter_are_named() -> None:
    base, tuned = build("gpt2"), build("gpt2")
    with torch.no_grad():
        tuned.transformer.h[0].attn.c_attn.weight.add_(0.1)
    with pytest.raises(
        ValueError, match=r"differs from the base in .*h\.0\.attn\.c_attn\.weight \(outputs beside q, v\)"
    ):
        dk.extract(base, tuned, R, target_modules="attention")


def test_what_else_differs_is_refused_and_named_and_the_base_is_as_it_was() -> None:
    base, tuned = two(changed=("first.weight", "first.bias", "classifier.weight"))
    before, flags = state_of(base), [p.requires_grad for p in base.parameters()]
    with pytest.raises(ValueError, match=r"differs from the base in first\.bias, classifier\.weight, which"):
        dk.extract(base, tuned, R, target_modules=TARGETS)
    assert_same(state_of(base), before)
    assert [p.requires_grad for p in base.parameters()] == flags
    with pytest.raises(ValueError, match=r"differs from the base in first\.bias, which the adapters would not hold"):
        dk.extract(base, tuned, R, target_modules=TARGETS, modules_to_save=["classifier"])


def test_what_else_differs_can_be_left_with_a_warning() -> None:
    base, tuned = two(changed=("first.weight", "first.bias", "classifier.weight"))
    bias, head = base.first.bias.clone(), tuned.classifier.weight
    with pytest.warns(UserWarning, match=r"differs from the base in first\.bias, which stay the base's"):
        model, _ = dk.extract(base, tuned, R, target_modules=TARGETS, modules_to_save=["classifier"], others="leave")
    assert torch.equal(model.first.bias, bias)
    assert torch.equal(model.classifier.weight, head)
    assert model.classifier.weight is not head


def test_a_tied_weight_is_covered_under_both_names_where_its_module_is_saved() -> None:
    base, tuned = build("gpt2"), build("gpt2")
    with torch.no_grad():
        tuned.transformer.wte.weight.add_(0.1)
        tuned.transformer.h[1].mlp.c_fc.weight.mul_(1.5)
    wanted = logits(tuned, inputs("gpt2"))
    model, _ = dk.extract(base, tuned, 32, target_modules="all-linear", modules_to_save=["wte"])
    torch.testing.assert_close(logits(model, inputs("gpt2")), wanted, rtol=1e-4, atol=1e-4)


def test_running_statistics_are_taken_over_and_saved(tmp_path: Path) -> None:
    base = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned[0].weight.add_(torch.randn(5, 6))
        tuned[1].running_mean.fill_(0.5)
    plain = copy.deepcopy(base)
    model, adapters = dk.extract(base, tuned, 5, target_modules=["0"])
    adapters.save(tmp_path)
    x = torch.randn(4, 6)
    for one in (model, dk.load(plain, tmp_path).model):
        torch.testing.assert_close(one.eval()(x), tuned.eval()(x), rtol=1e-5, atol=1e-5)


def test_a_tuned_model_in_half_precision_is_compared_at_its_own() -> None:
    base, tuned = two(changed=("first.weight",))
    with torch.no_grad():
        base.bfloat16().float()
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        tuned.first.weight.add_(torch.randn(17, 12))
    base.second.weight.data.mul_(1 + 1e-4)  # what rounding to bfloat16 takes away
    _, adapters = dk.extract(base, tuned.bfloat16(), R, target_modules=["first"])
    assert adapters.layers["first"].lora_A.dtype == torch.float32


@pytest.mark.parametrize("falls", ["slowly", "quickly"])
def test_the_approximate_decomposition_leaves_at_most_1_percent_more_than_need_be(falls: str) -> None:
    generator = torch.Generator().manual_seed(0)
    base = nn.Sequential(nn.Linear(300, 240, bias=False))
    tuned = copy.deepcopy(base)
    delta = torch.randn(240, 300, generator=generator) / 50
    if falls == "quickly":
        u, _, vh = torch.linalg.svd(delta, full_matrices=False)
        delta = u * 0.8 ** torch.arange(240) @ vh
    with torch.no_grad():
        tuned[0].weight.add_(delta)
    exact = torch.linalg.svdvals(delta.double())
    state = torch.get_rng_state()
    _, adapters = dk.extract(base, tuned, 8, target_modules=["0"], power_iterations=4)
    assert torch.equal(torch.get_rng_state(), state)
    for b in (1, 4, 8):
        left = (delta - adapters.delta("0", b)).norm().item()
        assert exact[b:].norm().item() * (1 - 1e-4) <= left <= 1.01 * exact[b:].norm().item()


def altered(what: str) -> tuple[Any, Any]:
    base, tuned = two()
    if what == "one model":
        return base, base
    if what == "another shape":
        tuned.classifier = nn.Linear(13, 4)
    if what == "no bias":
        tuned.classifier.bias = None
    if what == "adapters":
        dk.attach(tuned, r=2, target_modules=["first"])
    if what == "not finite":
        tuned.third.weight.data[0, 0] = torch.nan
    if what == "the same":
        tuned = copy.deepcopy(base)
    if what == "meta":
        tuned.first.to("meta")
    return base, tuned


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("one model", "base and tuned are one model"),
        (
            "another shape",
            r"'classifier.weight': the base has it in shape \(5, 13\), and the tuned model has it in shape",
        ),
        ("no bias", "'classifier.bias': the base has it in shape .*, and the tuned model does not have it"),
        ("adapters", "the tuned model has adapters"),
        ("not finite", "the difference of 'third' between the two models is not finite"),
        ("the same", "no target differs between the base and the tuned model"),
        ("meta", "cannot compare 'first.weight': it has no values"),
    ],
)
def test_models_that_do_not_belong_together_are_refused_and_the_base_is_as_it_was(what: str, sentence: str) -> None:
    base, tuned = altered(what)
    before = state_of(base)
    with pytest.raises(ValueError, match=sentence):
        dk.extract(base, tuned, R, target_modules=TARGETS)
    assert_same(state_of(base), before)
    dk.attach(base, r=2, target_modules=TARGETS)


@pytest.mark.parametrize("kind", ["parallel", "houlsby"])
def test_a_bottleneck_has_no_difference_to_take(kind: str) -> None:
    base, tuned = two()
    before = state_of(base)
    with pytest.raises(ValueError, match=r"the bottleneck of 'first' has no ΔW, .*: extracting is for a LoRA alone"):
        dk.extract(base, tuned, R, target_modules=TARGETS, bottleneck=kind)
    assert_same(state_of(base), before)


def test_options_that_do_not_fit_are_refused() -> None:
    base, tuned = two()
    with pytest.raises(ValueError, match="others must be 'refuse' or 'leave'"):
        dk.extract(base, tuned, R, target_modules=TARGETS, others="drop")
    with pytest.raises(ValueError, match="leave scaling out"):
        dk.extract(base, tuned, R, target_modules=TARGETS, scaling="alpha/b")
    with pytest.raises(ValueError, match="fourth"):
        dk.extract(base, tuned, R, target_modules=["fourth"])
    dk.attach(base, r=2, target_modules=TARGETS)
