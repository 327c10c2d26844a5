"""What has changed in a base since adapters were attached is noticed, whatever it is; what is unknown has not."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build, inputs, logits
from models import Net, batch, fill, make
from torch import nn
from toys import adapted, toy

import dylora_kit as dk
from dylora_kit.storage.adapter_files import read_adapter
from dylora_kit.storage.base_model import is_fingerprint, other_base
from dylora_kit.storage.checksum import checksum

# The checksum


def swapped(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[[3, 40]] = x[[40, 3]]
    return x


def neighbours_swapped(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[0, [4, 8]] = x[0, [8, 4]]
    return x


def columns_swapped(x: torch.Tensor) -> torch.Tensor:
    return x.roll(1, 1)


def two_signs(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[0, 1], x[0, 3] = -x[0, 1], -x[0, 3]
    return x


def last_bit(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[-1, -1] = torch.nextafter(x[-1, -1], x[-1, -1] + 1) if x.dtype.itemsize > 2 else x[-1, -1] * 1.01
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("change", [swapped, neighbours_swapped, columns_swapped, two_signs, last_bit, torch.neg])
def test_a_checksum_sees_values_their_signs_and_their_order(change: Callable[..., Any], dtype: torch.dtype) -> None:
    x = torch.randn(70, 301, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert checksum(change(x)) != checksum(x)
    assert checksum(x.clone()) == checksum(x)


def test_a_checksum_is_that_of_the_values_wherever_and_however_they_lie() -> None:
    x = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    inside = torch.cat([torch.zeros(1), x.flatten()])[1:].view(50, 300)  # not at a multiple of eight bytes
    across = x.T.contiguous().T
    assert checksum(inside) == checksum(across) == checksum(x)
    assert checksum(torch.arange(-1500, 1500)) == "eac374dd6620"  # files hold it


# What would be lost is named


def tie_broken(model: Any) -> None:
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() + 1, requires_grad=False)


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_tie_that_was_broken_is_named_once_the_values_differ(name: str, tmp_path: Path) -> None:
    model = build(name)
    adapters = dk.attach(model, r=2, target_modules="attention")
    weight = model.lm_head.weight
    model.lm_head.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    adapters.save(tmp_path / "same values")
    tie_broken(model)
    with pytest.raises(ValueError, match=r"'lm_head.weight' and '.*' are two weights now, and were not"):
        adapters.save(tmp_path / "other")
    adapters.save_also(["lm_head"])
    with pytest.raises(ValueError, match="are two weights now"):
        adapters.save(tmp_path / "other")
    model.lm_head.weight = weight
    adapters.save(tmp_path / "other")


def test_weights_tied_after_attach_are_not_saved_as_one(tmp_path: Path) -> None:
    model = build("llama")
    adapters = dk.attach(model, r=2, target_modules="attention", modules_to_save=["lm_head"])
    model.model.embed_tokens.weight = model.lm_head.weight
    with pytest.raises(ValueError, match=r"are one weight now, and were not when adapters were attached"):
        adapters.save(tmp_path)


def test_a_parameter_that_was_added_is_named_and_can_be_saved_with_its_module(tmp_path: Path) -> None:
    model, adapters = make()
    model.shift = nn.Parameter(torch.ones(5), requires_grad=False)
    with pytest.raises(ValueError, match=r"'shift' was added after .*: put it into a module of its own"):
        adapters.save(tmp_path)
    del model.shift
    model.norm = nn.BatchNorm1d(5).requires_grad_(False)
    with pytest.raises(ValueError, match=r"'norm.weight' was added after .*save_also\(\['norm'\]\)"):
        adapters.save(tmp_path)
    adapters.save_also(["norm"])
    adapters.save(tmp_path)


def test_statistics_of_a_normalisation_put_in_later_are_in_the_file(tmp_path: Path) -> None:
    model, adapters = make()
    model.norm = nn.BatchNorm1d(5, affine=False)
    adapters.save(tmp_path)
    with pytest.raises(ValueError, match=r"the file holds 'norm\..*', which the model does not have"):
        dk.load(Net(), tmp_path)
    again = Net()
    again.norm = nn.BatchNorm1d(5, affine=False)
    model.norm.running_mean += 1
    adapters.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # another base
        dk.load(again, tmp_path)
    assert torch.equal(again.norm.running_mean, model.norm.running_mean)
    adapters.detach()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_training_after_a_change_of_type_is_noticed(dtype: torch.dtype, tmp_path: Path) -> None:
    model, adapters = make()
    model.to(dtype)
    adapters.save(tmp_path)
    model.classifier.bias.data.mul_(1.05)
    with pytest.raises(ValueError, match=r"'classifier.bias' has changed .* by more than its type"):
        adapters.save(tmp_path)


@pytest.mark.parametrize("part", [slice(300), slice(300, None)], ids=["the first half", "the last half"])
def test_values_from_all_over_a_weight_are_compared_in_another_type(part: slice, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(600, 8), nn.Linear(8, 8))
    adapters = dk.attach(model, r=2, target_modules=["1"])
    model.bfloat16()
    model[0].weight.data[part] *= 1.5
    with pytest.raises(ValueError, match=r"'0.weight' has changed .* by more than its type"):
        adapters.save(tmp_path)


def test_a_single_row_of_a_large_embedding_counts(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(60000, 8), nn.Linear(8, 8))
    adapters = dk.attach(model, r=2, target_modules=["1"])
    model[0].weight.data[12345, 6] *= 1.001
    with pytest.raises(ValueError, match=r"'0.weight' has changed"):
        adapters.save(tmp_path)


# What cannot be read


def test_a_base_without_values_here_stops_no_save(tmp_path: Path) -> None:
    model, adapters = make()
    for wrapper in adapters.wrappers:
        wrapper.base_layer.to("meta")
    model.classifier.to("meta")
    adapters.save(tmp_path)
    dk.load(make()[1].detach(), tmp_path)


def test_adapters_without_values_are_refused_for_that(tmp_path: Path) -> None:
    model, adapters = make()
    model.to("meta")
    for write in (adapters.save, adapters.export_peft, lambda path: adapters.export_peft(path, serving=True)):
        with pytest.raises(ValueError, match=r"cannot save 'first.lora_A.weight': it has no values \(device meta"):
            write(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


class Counting(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"calls": 1}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_head_with_a_state_of_its_own_is_refused_for_that(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Counting(4, 2)))
    adapters = dk.attach(model, r=2, target_modules=r"0", modules_to_save=["1"])
    with pytest.raises(ValueError, match=r"'1\.0' has a state of its own \(get_extra_state\)"):
        adapters.save(tmp_path)


# What is gone


def drop_a_block(model: Any) -> None:
    model.bert.encoder.layer = model.bert.encoder.layer[:1]


def drop_the_pooler(model: Any) -> None:
    model.bert.pooler.dense = nn.Identity()


def drop_a_bias(model: Any) -> None:
    model.bert.encoder.layer[1].output.dense.bias = None


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (drop_a_block, r"encoder\.layer\.1\..*"),
        (drop_the_pooler, r"pooler\.dense\.weight"),
        (drop_a_bias, r"encoder\.layer\.1\.output\.dense\.bias"),
    ],
)
def test_adapters_are_not_saved_from_a_model_that_has_lost_a_weight(change: Any, name: str, tmp_path: Path) -> None:
    model = build("bert")
    adapters = dk.attach(model, r=2, target_modules=["0.attention.self.query"], modules_to_save=["classifier"])
    change(model)
    for write in (adapters.save, adapters.export_peft):
        with pytest.raises(
            ValueError, match=rf"'bert\.{name}' was in the model when adapters were attached, and is not"
        ):
            write(tmp_path / "adapters")
    assert not (tmp_path / "adapters").exists()


def test_a_head_that_is_trained_along_may_be_replaced_by_one_without_a_bias(tmp_path: Path) -> None:
    model = build("bert")
    adapters = dk.attach(model, r=2, target_modules="attention", modules_to_save=["classifier"])
    model.classifier = nn.Linear(32, 2, bias=False)
    adapters.save(tmp_path)
    again = build("bert")
    again.classifier = nn.Linear(32, 2, bias=False)
    dk.load(again, tmp_path)
    assert torch.equal(logits(again, inputs("bert")), logits(model, inputs("bert")))


# Without adapters


def normed() -> tuple[nn.Module, dk.Adapters]:
    model = toy(norm=True)
    return model, adapted(model)


def run_in_training(model: Any) -> None:
    model.train()
    model(torch.randn(8, 6) * 3)
    model.eval()


def permute(model: Any) -> None:
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight.flip(0))


def scale_norm(model: Any) -> None:
    with torch.no_grad():
        model.norm.weight.mul_(1.5)


def replace(model: Any) -> None:
    weight = model.classifier.weight.detach()
    del model.classifier.weight
    model.classifier.weight = nn.Parameter(weight + 1)


def add(model: Any) -> None:
    model.extra = nn.Parameter(torch.ones(1), requires_grad=False)


def take_out(model: Any) -> None:
    model.norm = nn.Identity()


CHANGES = [run_in_training, permute, scale_norm, replace, add, take_out]


@pytest.mark.parametrize("looked", [False, True], ids=["at first", "after a first look"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_base_that_was_changed_is_not_passed_off_as_the_base(change: Callable[..., Any], looked: bool) -> None:
    model, adapters = normed()
    if looked:
        with adapters.disabled():
            pass
    change(model)
    with pytest.raises(ValueError, match=r"not the base model, since '.*' (has|was|is no longer)"), adapters.disabled():
        pass


def test_a_copy_and_a_reopened_model_look_for_themselves() -> None:
    model, adapters = normed()
    with adapters.disabled():
        pass
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with dk.handle_of(twin).disabled():
            pass
        permute(twin)
        with pytest.raises(ValueError, match="is not the base"), dk.handle_of(twin).disabled():
            pass
    with adapters.disabled():
        pass


def test_a_nested_model_whose_base_was_changed_is_not_the_base() -> None:
    import peft

    model = peft.get_peft_model(build("gpt2"), peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    adapters = dk.nest_peft(model)
    with adapters.disabled():
        pass
    with torch.no_grad():
        model.base_model.model.transformer.ln_f.weight.mul_(2)
    with pytest.raises(ValueError, match=r"'transformer.ln_f.weight' has changed"), adapters.disabled():
        pass


# Another base


def biases(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.1)


def one_matrix(model: Any) -> None:
    model.second.weight.data.mul_(1.05)


def one_value(model: Any) -> None:
    model.third.weight.data[4, 5] += 1


@pytest.mark.parametrize(
    ("change", "dtypes"),
    [(biases, (torch.float32, torch.bfloat16)), (one_matrix, (torch.float32, torch.float16)), (one_value, (None,))],
)
def test_another_base_is_noticed_whatever_differs(change: Any, dtypes: Any, tmp_path: Path) -> None:
    make()[1].save(tmp_path)
    for dtype in dtypes:
        torch.manual_seed(0)
        model = Net().to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dk.load(model, tmp_path).detach()
        change(model)
        with pytest.warns(UserWarning, match="trained on another base.*has other values"):
            dk.load(model, tmp_path)


def blocks(n: int) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)) for _ in range(n)))


@pytest.mark.parametrize(
    ("n", "words"), [(3, "it has '2', which that one did not have"), (1, "it has no '1'")], ids=["more", "fewer"]
)
def test_a_base_with_more_or_fewer_blocks_is_another_one(n: int, words: str, tmp_path: Path) -> None:
    dk.attach(blocks(2), r=2, target_modules=["0.1"]).save(tmp_path)
    with pytest.warns(UserWarning, match=f"trained on another base.*{words}"):
        dk.load(blocks(n), tmp_path)


def quantised(model: Any) -> Any:
    for block in model:
        block[1].weight = nn.Parameter(torch.zeros(6, 6, dtype=torch.int8), requires_grad=False)
    return model


def without_values(model: Any) -> Any:
    model[1].to("meta")
    return model


@pytest.mark.parametrize("stored", [quantised, without_values])
def test_a_base_that_was_stored_otherwise_is_no_other_one(stored: Any, tmp_path: Path) -> None:
    norms = ["0.0", "1.0"]
    for there, here in ((stored, lambda model: model), (lambda model: model, stored)):
        adapters = dk.attach(there(blocks(2)), r=2, target_modules=["0.1"])
        adapters.save(tmp_path)
        fingerprint = read_adapter(tmp_path)[2].fingerprint
        assert is_fingerprint(fingerprint)
        assert {f"{name}.weight" for name in norms} <= set(fingerprint or ())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dk.load(here(blocks(2)), tmp_path)


def test_modules_added_to_what_is_saved_are_no_part_of_the_base(tmp_path: Path) -> None:
    model = blocks(3)
    adapters = dk.attach(model, r=2, target_modules=["0.1"])
    model[2].requires_grad_(True)
    with torch.no_grad():
        model[2][1].weight.mul_(2)
    adapters.save_also(["2"])
    adapters.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(blocks(3), tmp_path)


def test_a_tied_head_that_is_trained_along_makes_no_other_base(tmp_path: Path) -> None:
    model = build("gpt2")
    adapters = dk.attach(model, r=2, target_modules="attention", modules_to_save=["lm_head"])
    fill(adapters)
    model.lm_head.weight.data.add_(0.1)
    adapters.save(tmp_path)
    again = build("gpt2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(again, tmp_path)
    assert torch.equal(logits(again, inputs("gpt2")), logits(model, inputs("gpt2")))


def test_fingerprints_of_before_the_checksum_are_read_and_compared(tmp_path: Path) -> None:
    _, adapters = make()
    adapters.save(tmp_path)
    fingerprint = read_adapter(tmp_path)[2].fingerprint
    assert fingerprint is not None
    assert set(fingerprint) == {name for name, _ in Net().named_parameters()}
    torch.manual_seed(0)
    model = Net()
    weights = dict(model.named_parameters())
    values = model.second.weight.detach().flatten()[[round(index * 152 / 7) for index in range(8)]]
    before = {"second.weight": "9x17 float32 " + " ".join(f"{value:.6g}" for value in values.tolist())}
    assert is_fingerprint(before)
    assert is_fingerprint({"logit_scale": "scalar float32 #0a1b2c3d4e5f 2.6592"})
    assert not is_fingerprint({"up": "1x2 float32 #0a1b"})
    assert other_base(before, fingerprint, weights) is None
    assert other_base(before, fingerprint, {"second.weight": model.second.weight.bfloat16()}) is None
    model.second.weight.data.mul_(1.001)
    assert other_base(before, fingerprint, weights) == "'second.weight' has other values"


def test_the_answers_of_a_base_are_asked_for_at_little_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapters = make()
    with adapters.disabled():
        model(batch())
    monkeypatch.setattr("dylora_kit.core.base_record.checksum", lambda tensor: pytest.fail("read all weights again"))
    with adapters.disabled():
        model(batch())
