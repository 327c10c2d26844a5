"""Derivatives of an adapted layer: of derivatives too, and by torch.func, in every mode."""

import pytest
import torch
import torch.nn.functional as F
from models import batch, layer, make
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, linearize, vmap

import dylora_kit as dk

MODES = {
    "at r": {"rank": 4, "frozen": False},
    "at 2": {"rank": 2, "frozen": False},
    "row 3 alone": {"rank": 3, "frozen": True},
}
EACH_MODE = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def by_torch(adapted: dk.DyLoRALinear, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """Eq. 7, and Eq. 10 where frozen, in torch's own operations."""
    b = adapted.rank
    rows, columns = A[:b], B[:, :b]
    if adapted.frozen:
        rows = torch.cat([rows[: b - 1].detach(), rows[b - 1 :]])
        columns = torch.cat([columns[:, : b - 1].detach(), columns[:, b - 1 :]], dim=1)
    return adapted.base_layer(x) + adapted.scale(b) * (x @ rows.T) @ columns.T


def made(mode: dict[str, int | bool]) -> dk.DyLoRALinear:
    adapted = layer(r=4, d_in=7, d_out=11)
    adapted.rank, adapted.frozen = mode["rank"], mode["frozen"]
    return adapted


def inputs(n: int = 3) -> Tensor:
    return torch.randn(n, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def call(adapted: dk.DyLoRALinear, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    return functional_call(adapted, {"lora_A": A, "lora_B": B}, (x,))


@pytest.mark.parametrize("mode", [MODES["at r"], MODES["at 2"]], ids=["at r", "at 2"])
def test_first_and_second_derivatives_are_those_of_finite_differences(mode: dict[str, int | bool]) -> None:
    adapted = made(mode)
    given = (
        inputs().requires_grad_(),
        adapted.lora_A.detach().requires_grad_(),
        adapted.lora_B.detach().requires_grad_(),
    )

    def f(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        return call(adapted, x, A, B).pow(2).sum()

    assert torch.autograd.gradcheck(f, given)
    assert torch.autograd.gradgradcheck(f, given)


@pytest.mark.parametrize("n", [3, 20], ids=["low-rank", "merged"])
@EACH_MODE
def test_the_derivative_of_a_gradient_penalty_is_torchs(mode: dict[str, int | bool], n: int) -> None:
    adapted, head = made(mode), nn.Linear(11, 1).double()
    of_each = []
    for f in (call, by_torch):
        x, A, B = inputs(n).requires_grad_(), adapted.lora_A.detach().clone(), adapted.lora_B.detach().clone()
        A.requires_grad_(), B.requires_grad_()
        loss = head(torch.tanh(f(adapted, x, A, B))).pow(2).sum()
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        of_each.append(torch.autograd.grad(slope.pow(2).sum(), (head.weight, x, A, B)))
    for ours, theirs in zip(*of_each, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_penalty_on_the_adapters_own_gradients_reaches_them_through_a_linear_loss() -> None:
    adapted = made(MODES["at 2"])
    loss = adapted(inputs()).sum()  # its gradient by the output is constant
    slopes = torch.autograd.grad(loss, (adapted.lora_A, adapted.lora_B), create_graph=True)
    sum(slope.pow(2).sum() for slope in slopes).backward()
    A, B = (p.detach().clone().requires_grad_() for p in (adapted.lora_A, adapted.lora_B))
    plain = torch.autograd.grad(by_torch(adapted, inputs(), A, B).sum(), (A, B), create_graph=True)
    sum(slope.pow(2).sum() for slope in plain).backward()
    torch.testing.assert_close(adapted.lora_A.grad, A.grad)
    torch.testing.assert_close(adapted.lora_B.grad, B.grad)


@pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])
def test_a_gradient_penalty_of_a_mixed_batch_is_that_of_its_examples(frozen: bool) -> None:
    def penalty(adapted: dk.DyLoRALinear, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.tanh(adapted(x)).pow(2).sum(), x, create_graph=True)
        return slope.pow(2).sum()

    mixed, alone = (made({"rank": 4, "frozen": frozen}) for _ in range(2))
    ranks = torch.tensor([1, 4, 2])
    mixed.rank = ranks
    penalty(mixed, inputs()).backward()
    for example, rank in enumerate(ranks.tolist()):
        alone.rank = rank
        penalty(alone, inputs()[example : example + 1]).backward()
    torch.testing.assert_close(mixed.lora_A.grad, alone.lora_A.grad)
    torch.testing.assert_close(mixed.lora_B.grad, alone.lora_B.grad)


@EACH_MODE
def test_forward_mode_derivatives_and_traces_are_those_of_the_layer(mode: dict[str, int | bool]) -> None:
    adapted = made(mode)
    x, direction = inputs(), torch.randn(3, 7, dtype=torch.float64)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(adapted(forward_ad.make_dual(x, direction))).tangent
    whole = adapted.weight + adapted.delta()
    torch.testing.assert_close(slope, direction @ whole.T)
    _, along = linearize(adapted, x)
    torch.testing.assert_close(along(direction), direction @ whole.T)
    torch.testing.assert_close(torch.jit.trace(adapted, x)(direction), adapted(direction))


def test_a_mixed_batch_and_autocast_have_second_derivatives_too() -> None:
    model, adapters = make(dtype=torch.float64)
    adapters.rank = torch.tensor([1, 4, 8, 2, 3, 8])
    x = batch(dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(model(x).pow(2).sum(), x, create_graph=True)
    (product,) = torch.autograd.grad(slope.sum(), x)
    for example, rank in enumerate(adapters.rank.tolist()):
        with adapters.at(rank):
            one = x[example : example + 1].detach().requires_grad_()
            (alone,) = torch.autograd.grad(model(one).pow(2).sum(), one, create_graph=True)
            torch.testing.assert_close(product[example : example + 1], torch.autograd.grad(alone.sum(), one)[0])


@EACH_MODE
def test_torch_funcs_gradients_and_jacobians_are_torchs(mode: dict[str, int | bool]) -> None:
    adapted = made(mode)
    x, A, B = inputs(), adapted.lora_A.detach(), adapted.lora_B.detach()
    for argument in (1, 2, 3):
        ours = grad(lambda *given: call(*given).pow(2).sum(), argnums=argument)(adapted, x, A, B)
        theirs = grad(lambda *given: by_torch(*given).pow(2).sum(), argnums=argument)(adapted, x, A, B)
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        jacrev(lambda z: call(adapted, z, A, B))(x), jacrev(lambda z: by_torch(adapted, z, A, B))(x)
    )


def test_torch_funcs_hessian_vmap_and_jvp_are_torchs() -> None:
    adapted = made(MODES["at 2"])
    x, A, B = inputs(), adapted.lora_A.detach(), adapted.lora_B.detach()
    of_ours, of_theirs = (lambda z, f=f: f(adapted, z, A, B).pow(2).sum() for f in (call, by_torch))
    torch.testing.assert_close(hessian(of_ours)(x), hessian(of_theirs)(x))
    torch.testing.assert_close(vmap(lambda row: call(adapted, row, A, B))(x), adapted(x))
    ours, theirs = (jvp(f, (x,), (torch.ones_like(x),)) for f in (of_ours, of_theirs))
    torch.testing.assert_close(ours, theirs)


def test_gradients_of_each_example_by_vmap_are_those_one_by_one() -> None:
    model, adapters = make(dtype=torch.float64)
    adapters.rank = 3
    weights = {name: p.detach() for name, p in model.named_parameters() if "lora_" in name}

    def loss(given: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, given, (x[None],)).pow(2).sum()

    x = batch(dtype=torch.float64)
    together = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    for index, row in enumerate(x):
        model.zero_grad()
        model(row[None]).pow(2).sum().backward()
        for name, p in model.named_parameters():
            if name in weights:
                torch.testing.assert_close(together[name][index], p.grad)


def test_one_rank_per_example_under_torch_func_is_refused_in_a_sentence() -> None:
    model, adapters = make()
    adapters.rank = torch.tensor([1, 2, 3, 4, 5, 6])
    with pytest.raises(NotImplementedError, match=r"one rank for each example does not go through torch\.func"):
        grad(lambda x: model(x).pow(2).sum())(batch())


def test_a_layer_under_dropout_and_a_wrapped_output_is_differentiated_twice_as_well() -> None:
    adapted = layer(r=4, d_in=7, d_out=11, lora_dropout=0.5)
    adapted.train()
    x = inputs().requires_grad_()
    torch.manual_seed(0)
    (slope,) = torch.autograd.grad(adapted(x).pow(2).sum(), x, create_graph=True)
    (product,) = torch.autograd.grad(slope.sum(), x)
    torch.manual_seed(0)
    dropped = F.dropout(x, 0.5)
    plain = adapted.base_layer(x) + adapted.scale(4) * (dropped @ adapted.lora_A.T) @ adapted.lora_B.T
    (slope,) = torch.autograd.grad(plain.pow(2).sum(), x, create_graph=True)
    torch.testing.assert_close(product, torch.autograd.grad(slope.sum(), x)[0])


@pytest.mark.parametrize("n", [3, 20], ids=["low-rank", "merged"])
@pytest.mark.parametrize("dropout", [0.0, 0.5], ids=["plain", "base layer called"])
@EACH_MODE
def test_a_layer_that_is_called_twice_has_the_same_gradients_with_a_graph_and_without(
    mode: dict[str, int | bool], dropout: float, n: int
) -> None:
    adapted = layer(r=4, d_in=7, d_out=7, lora_dropout=dropout)
    adapted.rank, adapted.frozen = mode["rank"], mode["frozen"]
    found = []
    for graph in (False, True):
        torch.manual_seed(0)
        x = inputs(n).requires_grad_()
        out = adapted(torch.tanh(adapted(x))).pow(2).sum()
        found.append(torch.autograd.grad(out, (x, adapted.lora_A, adapted.lora_B), create_graph=graph))
    for without, with_graph in zip(*found, strict=True):
        torch.testing.assert_close(with_graph, without)
