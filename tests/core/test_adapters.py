import copy

import numpy as np
import pytest
import reference
import torch
from models import TARGETS, Net, R, batch, fill, loss_of, make
from torch import nn

import dylora_kit as dk


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(12, 10), nn.Linear(12, 10), nn.Linear(12, 10)
        self.norm = nn.LayerNorm(10)

    def forward(self, x):
        return self.norm(self.q_proj(x) + self.k_proj(x).tanh() * self.v_proj(x))


class Encoder(nn.Module):
    """Two attention blocks with transformers-like names, an embedding and a head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.layers = nn.ModuleList([nn.ModuleDict({"attention": Attention()}) for _ in range(2)])
        self.classifier = nn.Linear(10, 3)
        self.layers[0]["attention"].k_proj.bias.requires_grad_(False)

    def forward(self, x):
        x = self.embedding(x)
        return self.classifier(sum(layer["attention"](x) for layer in self.layers))


def snapshot(model):
    """What an attach that fails, or a detach, must leave as it was."""
    return (
        [(name, id(module), type(module)) for name, module in model.named_modules(remove_duplicate=False)],
        [(name, id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)],
        list(model.state_dict()),
        [module.training for module in model.modules()],
        {name: p.detach().clone() for name, p in model.named_parameters()},
    )


def assert_same(before, after):
    assert before[:-1] == after[:-1]
    assert all(torch.equal(value, after[-1][name]) for name, value in before[-1].items())


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], ["layers.0.attention.q_proj", "layers.1.attention.q_proj"]),
        (["1.attention.v_proj"], ["layers.1.attention.v_proj"]),
        (
            ["v_proj", "q_proj"],
            [f"layers.{i}.attention.{name}" for i in range(2) for name in ("q_proj", "v_proj")],
        ),
        (("layers.0.attention.k_proj",), ["layers.0.attention.k_proj"]),
        (r".*\.0\..*(q|v)_proj", ["layers.0.attention.q_proj", "layers.0.attention.v_proj"]),
        (r"classifier", ["classifier"]),
    ],
    ids=str,
)
def test_lists_match_the_end_of_names_and_strings_whole_names(targets, expected):
    model = Encoder()
    adapters = dk.attach(model, r=2, target_modules=targets)
    assert list(adapters.layers) == expected
    adapted = {name for name, module in model.named_modules() if isinstance(module, dk.DyLoRALinear)}
    assert adapted == set(expected)
    assert all(model.get_submodule(name) is layer for name, layer in adapters.layers.items())
    assert (adapters.rank, adapters.r, adapters.frozen, adapters.merged) == (2, 2, False, False)


@pytest.mark.parametrize("targets", [["proj"], ["roj"], "q_proj", r".*\.query", ["q_proj", "query"]], ids=str)
def test_what_matches_nothing_is_refused_with_the_names_there_are(targets):
    model = Encoder()
    before = snapshot(model)
    with pytest.raises(ValueError, match="matches no module") as error:
        dk.attach(model, target_modules=targets)
    for name in ("q_proj", "k_proj", "v_proj", "classifier"):
        assert name in str(error.value)
    assert_same(snapshot(model), before)


def test_close_names_are_suggested():
    with pytest.raises(ValueError, match=r"'q_porj'.*did you mean .*'q_proj'"):
        dk.attach(Encoder(), target_modules=["q_porj"])


def test_only_adapters_and_saved_modules_require_gradients():
    model = Encoder()
    adapters = dk.attach(model, r=2, target_modules=["q_proj"], modules_to_save=["classifier", "0.attention.norm"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    expected = {f"{name}.lora_{letter}" for name in adapters.layers for letter in "AB"}
    expected |= {f"{name}.{key}" for name in ("classifier", "layers.0.attention.norm") for key in ("weight", "bias")}
    assert trained == expected
    assert adapters.saved_modules == {
        "classifier": model.classifier,
        "layers.0.attention.norm": model.layers[0]["attention"].norm,
    }


def test_rank_pattern_sets_another_maximum_for_some_layers():
    model = Encoder()
    adapters = dk.attach(
        model, r=4, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 2, "1.attention.q_proj": 7}
    )
    ranks = {name: layer.r for name, layer in adapters.layers.items()}
    assert list(ranks.values()) == [4, 2, 7, 2]
    assert [len(layer.lora_A) for layer in adapters.layers.values()] == [4, 2, 7, 2]
    assert (adapters.r, adapters.rank) == (7, 7)
    adapters.rank = 3
    assert [layer.rank for layer in adapters.layers.values()] == [3, 2, 3, 2]


def test_all_options_reach_every_layer():
    _, adapters = make(r=4, lora_alpha=3, scaling="alpha/sqrt(b)", lora_dropout=0.25)
    for layer in adapters.layers.values():
        assert (layer.r, layer.lora_alpha, layer.scaling, layer.lora_dropout) == (4, 3, "alpha/sqrt(b)", 0.25)
    wanted = {"r": 4, "lora_alpha": 3, "scaling": "alpha/sqrt(b)", "lora_dropout": 0.25, "target_modules": TARGETS}
    assert adapters.config == {**wanted, "modules_to_save": [], "rank_pattern": {}, "split_fused": True}


class WithMultihead(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 6)
        self.attention = nn.MultiheadAttention(8, 2)


FAILING = {
    "embedding after linears": (Encoder, {"target_modules": ["q_proj", "embedding"]}, TypeError, "Embedding"),
    "container": (Encoder, {"target_modules": ["attention"]}, TypeError, "cannot adapt a Attention"),
    "empty list": (Encoder, {"target_modules": []}, ValueError, "empty"),
    "r 0": (Encoder, {"r": 0}, ValueError, "rank 0"),
    "r a fraction": (Encoder, {"r": 2.5}, ValueError, "whole number"),
    "r true": (Encoder, {"r": True}, ValueError, "whole number"),
    "r below 1": (Encoder, {"r": -2}, ValueError, "layers.0.attention.q_proj: rank -2.*expected 1 upwards"),
    "alpha": (Encoder, {"lora_alpha": -1}, ValueError, "lora_alpha"),
    "scaling": (Encoder, {"scaling": "b/alpha"}, ValueError, "'alpha/b', 'alpha/r', 'alpha/sqrt"),
    "dropout": (Encoder, {"lora_dropout": 1.0}, ValueError, "lora_dropout"),
    "pattern without target": (Encoder, {"rank_pattern": {"k_proj": 2}}, ValueError, "'k_proj', which is no target"),
    "pattern 0": (Encoder, {"rank_pattern": {"1.attention.q_proj": 0}}, ValueError, "rank 0"),
    "saved a string": (Encoder, {"modules_to_save": "classifier"}, ValueError, r"list of names.*\['classifier'\]"),
    "saved unknown": (Encoder, {"modules_to_save": ["head"]}, ValueError, "'head' matches no module.*classifier"),
    "target is saved": (Encoder, {"modules_to_save": ["q_proj"]}, ValueError, "choose one"),
    "target inside saved": (Encoder, {"modules_to_save": ["1.attention"]}, ValueError, "'layers.1.attention.q_proj'"),
    "multihead": (WithMultihead, {"target_modules": ["linear", "attention"]}, TypeError, "MultiheadAttention"),
    "inside multihead": (WithMultihead, {"target_modules": ["linear", "out_proj"]}, TypeError, "MultiheadAttention"),
}


@pytest.mark.parametrize(("build", "options", "error", "message"), FAILING.values(), ids=FAILING)
def test_a_failing_attach_leaves_the_model_as_it_was(build, options, error, message):
    model = build()
    model.eval()
    before = snapshot(model)
    with pytest.raises(error, match=message):
        dk.attach(model, **{"r": 4, "target_modules": ["q_proj"], **options})
    assert_same(snapshot(model), before)


def test_attaching_twice_is_refused_and_possible_again_after_detach():
    model, adapters = make()
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"has adapters already.*detach"):
        dk.attach(model, r=2, target_modules=["classifier"])
    assert_same(snapshot(model), before)
    adapters.detach()
    assert list(dk.attach(model, r=2, target_modules=["classifier"]).layers) == ["classifier"]


@pytest.mark.parametrize("merged", [False, True], ids=["plain", "merged"])
def test_detach_gives_back_the_very_modules_and_their_requires_grad(merged):
    model = Encoder()
    model.layers[1].eval()
    before = snapshot(model)
    x = torch.randint(0, 20, (3, 4))
    wanted = model(x)
    adapters = dk.attach(model, r=4, target_modules=["q_proj", "k_proj"], modules_to_save=["classifier"])
    fill(adapters)
    assert not torch.equal(model(x), wanted)
    if merged:
        adapters.merge(rank=3)
    assert adapters.detach() is model
    assert_same(snapshot(model), before)
    assert torch.equal(model(x), wanted)


def test_attach_keeps_the_mode_of_each_layer():
    model = Net()
    model.second.eval()
    adapters = dk.attach(model, r=2, target_modules=TARGETS)
    assert [layer.training for layer in adapters.layers.values()] == [True, False, True]
    assert [layer.base_layer.training for layer in adapters.layers.values()] == [True, False, True]


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(12, 10)
        self.also = nn.ModuleDict({"encode_again": self.encode})
        self.decode = nn.Linear(10, 12)

    def forward(self, x):
        return self.also["encode_again"](self.decode(self.encode(x)))


@pytest.mark.parametrize("targets", [["encode"], ["encode", "encode_again"], ["encode_again"], ".*encode.*"], ids=str)
def test_a_module_under_two_names_is_adapted_in_both_places(targets):
    model = Shared()
    original = model.encode
    adapters = dk.attach(model, r=3, target_modules=targets)
    assert len(adapters.layers) == 1
    assert model.encode is model.also["encode_again"]
    assert isinstance(model.encode, dk.DyLoRALinear)
    fill(adapters)
    adapters.rank = 2
    x = batch()
    before = model(x)
    adapters.merge()
    torch.testing.assert_close(model.eval()(x), before)
    adapters.unmerge()
    assert torch.equal(model(x), before)
    adapters.detach()
    assert model.encode is original
    assert model.also["encode_again"] is original


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.free = nn.Linear(12, 10)
        self.tokens = nn.Embedding(20, 10)
        self.head = nn.Linear(10, 20, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        return self.head(self.free(x))


def test_merging_a_tied_weight_is_refused_and_merges_nothing():
    model = Tied()
    adapters = dk.attach(model, r=3, target_modules=["free", "head"])
    fill(adapters)
    weights = {name: layer.weight.clone() for name, layer in adapters.layers.items()}
    adapters.rank = 2
    with pytest.raises(ValueError, match=r"cannot merge 'head': its weight is shared by tokens, head"):
        adapters.merge(rank=1)
    assert not adapters.merged
    assert adapters.rank == 2
    assert all(torch.equal(layer.weight, weights[name]) for name, layer in adapters.layers.items())


def test_merging_an_integer_weight_is_refused():
    model, adapters = make()
    model.second.base_layer.weight.data = torch.zeros(9, 17, dtype=torch.int8)
    weight = model.first.weight.clone()
    with pytest.raises(ValueError, match=r"'second'.*quantised"):
        adapters.merge()
    assert torch.equal(model.first.weight, weight)
    assert not adapters.merged


VALUES = {
    "int": 3,
    "mapping": {"first": 2, "second": 7, "third": 1},
    "tensor": torch.tensor([1, 8, 3, 2, 5, 4]),
}


def listed(rank):
    return rank.tolist() if isinstance(rank, torch.Tensor) else rank


@pytest.mark.parametrize("before", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("inside", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("fails", [False, True], ids=["fine", "error"])
def test_at_restores_the_rank_it_found(before, inside, fails):
    model, adapters = make()
    model.eval()
    adapters.rank = before
    wanted = model(batch())
    try:
        with adapters.at(rank=inside) as handle:
            assert handle is adapters
            assert listed(adapters.rank) == listed(inside)
            assert not torch.equal(model(batch()), wanted) or before is inside
            if fails:
                raise KeyError("inside")
    except KeyError:
        assert fails
    assert listed(adapters.rank) == listed(before)
    assert torch.equal(model(batch()), wanted)


def test_at_can_be_nested_and_refuses_a_bad_rank_before_the_block():
    _, adapters = make()
    adapters.rank = 5
    with adapters.at(rank=3):
        with adapters.at(rank=1):
            assert adapters.rank == 1
        assert adapters.rank == 3
        with pytest.raises(ValueError, match="1 to 8"), adapters.at(rank=9):
            raise AssertionError("the block ran")
        assert adapters.rank == 3
    assert adapters.rank == 5


def test_the_seed_decides_the_start_and_the_global_generator_is_untouched():
    starts = []
    for seed, global_seed in ((3, 0), (3, 1), (4, 0)):
        model = Net()
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        adapters = dk.attach(model, r=8, target_modules=TARGETS, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        starts.append([layer.lora_A.detach() for layer in adapters.layers.values()])
    assert all(torch.equal(first, second) for first, second in zip(starts[0], starts[1], strict=True))
    assert not any(torch.equal(first, second) for first, second in zip(starts[0], starts[2], strict=True))


def test_num_parameters_matches_a_count_by_hand():
    _, adapters = make(rank_pattern={"second": 3})
    sizes = {"first": 12 + 17, "second": 17 + 9, "third": 9 + 13}
    assert adapters.num_parameters(1) == 29 + 26 + 22
    assert adapters.num_parameters(5) == 5 * 29 + 3 * 26 + 5 * 22
    assert adapters.num_parameters() == 8 * 29 + 3 * 26 + 8 * 22
    assert adapters.num_parameters() == sum(p.numel() for p in adapters.model.parameters() if p.requires_grad)
    adapters.rank = {"first": 1, "second": 2, "third": 7}
    assert adapters.num_parameters() == sizes["first"] + 2 * sizes["second"] + 7 * sizes["third"]
    with pytest.raises(ValueError, match="1 to 8"):
        adapters.num_parameters(9)
    assert "3 layers, r=8" in repr(adapters)


@pytest.mark.parametrize("b", range(1, R + 1))
@pytest.mark.parametrize("scaling", sorted(reference.SCALES))
def test_delta_of_each_layer_equals_the_reference(b, scaling):
    _, adapters = make(dtype=torch.float64, scaling=scaling, lora_alpha=10)
    for name, layer in adapters.layers.items():
        wanted = reference.delta(layer.lora_A, layer.lora_B, b, 10, scaling)
        torch.testing.assert_close(adapters.delta(name, rank=b), wanted, rtol=1e-12, atol=1e-12)
        adapters.rank = b
        torch.testing.assert_close(adapters.delta(name), wanted, rtol=1e-12, atol=1e-12)


def test_delta_follows_a_mapping_and_refuses_unknown_layers():
    _, adapters = make()
    adapters.rank = {"first": 1, "second": 5, "third": 2}
    assert torch.equal(adapters.delta("second"), adapters.delta("second", rank=5))
    with pytest.raises(ValueError, match=r"'fourth'.*first, second, third"):
        adapters.delta("fourth")


def test_a_mapping_of_ranks_runs_each_layer_at_its_own():
    model, adapters = make(dtype=torch.float64)
    ranks = {"first": 2, "second": 7, "third": 1}
    adapters.rank = ranks
    x = h = batch(dtype=torch.float64)
    for name, b in ranks.items():
        la = adapters.layers[name]
        h = torch.tanh(reference.forward(h, la.weight, la.bias, la.lora_A, la.lora_B, b, la.lora_alpha))
    torch.testing.assert_close(model(x), model.classifier(h))
    adapters.merge()
    assert adapters.rank == ranks
    torch.testing.assert_close(model.eval()(x), model.classifier(h))


def test_a_mixed_batch_can_be_merged_only_at_a_named_rank():
    model, adapters = make()
    adapters.rank = torch.tensor([1, 2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match=r"merge\(rank=3\)"):
        adapters.merge()
    assert not adapters.merged
    adapters.merge(rank=3)
    assert adapters.rank == 3
    merged = model.eval()(batch())
    adapters.unmerge()
    torch.testing.assert_close(merged, model(batch()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapters_train_in_float32_beside_a_half_precision_base(dtype):
    model, adapters = make(dtype=dtype)
    optimizer = dk.NestedAdamW(adapters, lr=1e-4)
    x = batch().to(dtype)
    adapters.rank = 3
    start = [layer.lora_B.clone() for layer in adapters.layers.values()]
    base = [layer.weight.clone() for layer in adapters.layers.values()]
    for _ in range(3):
        optimizer.zero_grad()
        out = model(x)
        assert out.dtype == dtype
        out.float().pow(2).mean().backward()
        optimizer.step()
    for layer, before, weight in zip(adapters.layers.values(), start, base, strict=True):
        assert layer.lora_A.dtype == layer.lora_B.dtype == layer.lora_B.grad.dtype == torch.float32
        moved = (layer.lora_B - before).abs()
        assert 0 < moved[:, :3].max() < 1e-3  # steps too small for half precision to hold
        assert moved[:, 3:].count_nonzero() == 0
        assert torch.equal(layer.weight, weight)


def test_training_at_one_rank_changes_nothing_at_the_base():
    model, adapters = make()
    before = copy.deepcopy(adapters.detach()).state_dict()
    adapters = dk.attach(model, r=8, target_modules=TARGETS)
    optimizer = dk.NestedAdamW(adapters, lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, batch()).backward()
        optimizer.step()
    after = adapters.detach().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_detached_adapters_can_no_longer_be_used():
    _, adapters = make()
    adapters.detach()
    for use in (lambda: setattr(adapters, "rank", 1), lambda: adapters.merge(1), adapters.detach):
        with pytest.raises(ValueError, match="detached"):
            use()


def test_a_model_moved_to_another_type_while_merged_unmerges_to_that_type():
    model, adapters = make()
    original = model.first.weight.detach().clone()
    adapters.merge(rank=2)
    model.double()
    adapters.unmerge()
    assert torch.equal(model.first.weight, original.double())


def test_an_interrupted_merge_leaves_every_weight_as_it_was(monkeypatch):
    model, adapters = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    whole, calls = dk.DyLoRALinear.merged_weight, []

    def interrupted(layer):
        calls.append(layer)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(layer)

    monkeypatch.setattr(dk.DyLoRALinear, "merged_weight", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapters.merge(rank=2)
    assert not adapters.merged
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_an_interrupted_attach_leaves_the_model_trainable(monkeypatch):
    model = Net()
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(nn.init, "normal_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dk.attach(model, r=2, target_modules=["first", "second"])
    assert all(p.requires_grad for p in model.parameters())
    assert not any(isinstance(module, dk.DyLoRALinear) for module in model.modules())


def test_the_scaling_is_changed_for_all_layers_and_kept_in_the_config(tmp_path):
    model, adapters = make()
    adapters.scaling = "alpha/r"
    adapters.rank = 2
    expected = model(batch())
    adapters.save(tmp_path)
    again = dk.load(adapters.detach(), tmp_path)
    again.rank = 2
    assert again.scaling == "alpha/r"
    assert torch.equal(model(batch()), expected)
    with pytest.raises(ValueError, match="unknown scaling"):
        again.scaling = "alpha"
    with pytest.raises(AttributeError):
        next(iter(again.layers.values())).scaling = "alpha/b"
    assert again.scaling == "alpha/r"


def test_numbers_of_numpy_are_stored_as_plain_ones(tmp_path):
    model = Net()
    adapters = dk.attach(
        model, r=np.int64(3), lora_dropout=np.float64(0.5), target_modules=(name for name in ["first"])
    )
    adapters.save(tmp_path)
    assert dk.load(adapters.detach(), tmp_path).r == 3
