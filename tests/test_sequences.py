"""Random sequences of everything that can be done with adapters, against a model of plain formulas in float64.

python -m pytest tests/test_sequences.py -m by_hand      # 2,000 sequences
"""

import copy
import pickle
import tempfile
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from models import TARGETS, Net
from torch import Tensor

import dylora_kit as dk

R, ALPHA, EXAMPLES = 5, 12.0, 4
LIMITS = {"first": R, "second": 3, "third": R}
LR, DECAY, BETAS, EPS = 0.02, 0.1, (0.9, 0.999), 1e-8
SCALES = {
    "alpha/b": lambda b, r: ALPHA / b,
    "alpha/r": lambda b, r: ALPHA / r,
    "alpha/sqrt(b)": lambda b, r: ALPHA / b**0.5,
}
OPTIONS: dict[str, Any] = {"r": R, "lora_alpha": ALPHA, "target_modules": TARGETS, "rank_pattern": {"second": 3}}
Matrices = dict[str, Tensor]


class Formulas:
    """What the adapted network is: Eq. 7 layer by layer, and AdamW row by row."""

    def __init__(self, base: Matrices, scaling: str) -> None:
        self.base, self.scaling = {name: tensor.clone() for name, tensor in base.items()}, scaling
        self.A: Matrices = {}
        self.B: Matrices = {}
        self.rows: dict[tuple[str, str, int], list[Any]] = {}  # moments and step count of each row

    def ranks(self, rank: Any) -> dict[str, list[int]]:
        """The rank of each example in each layer."""
        found = {}
        for name, r in LIMITS.items():
            if isinstance(rank, dict):
                found[name] = [rank[name]] * EXAMPLES
            else:
                each = rank.tolist() if isinstance(rank, Tensor) else [rank] * EXAMPLES
                found[name] = [min(b, r) for b in each]
        return found

    def forward(
        self, x: Tensor, rank: Any, A: dict[str, Tensor] | None = None, B: dict[str, Tensor] | None = None
    ) -> Tensor:
        A, B = A or self.A, B or self.B
        ranks = self.ranks(rank)
        for name in TARGETS:
            h = x @ self.base[f"{name}.weight"].T + self.base.get(f"{name}.bias", 0.0)
            added = [
                SCALES[self.scaling](b, LIMITS[name]) * (x[i] @ A[name][:b].T @ B[name][:, :b].T)
                for i, b in enumerate(ranks[name])
            ]
            x = torch.tanh(h + torch.stack(added))
        return x @ self.base["classifier.weight"].T + self.base["classifier.bias"]

    def step(self, x: Tensor, rank: Any, update: str, frozen: bool) -> None:
        """One step of AdamW on the mean square of the output, on the rows that Algorithm 1 selects."""
        grads = self._gradients_of_own_rows(x, rank) if frozen else self._gradients(x, rank, range(EXAMPLES))
        for name, drawn in self.ranks(rank).items():
            selected = set(drawn) if frozen else set(range(1, max(drawn) + 1))
            for kind, tensors in (("A", self.A), ("B", self.B)):
                for row in range(1, LIMITS[name] + 1):
                    if update == "authors" or row in selected:
                        at = (row - 1,) if kind == "A" else (slice(None), row - 1)
                        self._adamw(tensors[name], at, grads[kind][name][at], (name, kind, row))

    def _gradients(self, x: Tensor, rank: Any, examples: Any) -> dict[str, dict[str, Tensor]]:
        """The gradients of what some examples add to the mean square."""
        A = {name: tensor.clone().requires_grad_() for name, tensor in self.A.items()}
        B = {name: tensor.clone().requires_grad_() for name, tensor in self.B.items()}
        out = self.forward(x, rank, A, B)
        loss = out[list(examples)].pow(2).sum() / out.numel()
        grads = torch.autograd.grad(loss, [*A.values(), *B.values()])
        return {"A": dict(zip(A, grads[: len(A)], strict=True)), "B": dict(zip(B, grads[len(A) :], strict=True))}

    def _gradients_of_own_rows(self, x: Tensor, rank: Any) -> dict[str, dict[str, Tensor]]:
        """The gradients of Eq. 10: those of each example reach its own row alone."""
        matrices = {"A": self.A, "B": self.B}
        kept = {kind: {name: torch.zeros_like(t) for name, t in of.items()} for kind, of in matrices.items()}
        for example in range(EXAMPLES):
            alone = self._gradients(x, rank, [example])
            for name, ranks in self.ranks(rank).items():
                row = ranks[example] - 1
                kept["A"][name][row] += alone["A"][name][row]
                kept["B"][name][:, row] += alone["B"][name][:, row]
        return kept

    def _adamw(self, tensor: Tensor, at: Any, grad: Tensor, key: tuple[str, str, int]) -> None:
        mean, square, count = self.rows.get(key, (torch.zeros_like(grad), torch.zeros_like(grad), 0))
        count += 1
        mean = BETAS[0] * mean + (1 - BETAS[0]) * grad
        square = BETAS[1] * square + (1 - BETAS[1]) * grad**2
        self.rows[key] = [mean, square, count]
        change = (mean / (1 - BETAS[0] ** count)) / ((square / (1 - BETAS[1] ** count)).sqrt() + EPS)
        tensor[at] = tensor[at] * (1 - LR * DECAY) - LR * change


class Sequences(RuleBasedStateMachine):
    """The kit beside the formulas."""

    @initialize(scaling=st.sampled_from(list(SCALES)), seed=st.integers(0, 10**6))
    def attach(self, scaling: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.model: Any = Net().double()
        self.base = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.adapters = dk.attach(self.model, scaling=scaling, seed=seed, **OPTIONS)
        self.formulas = Formulas(self.base, scaling)
        self.rank: Any = R
        self.merged = False
        self.x = torch.randn(EXAMPLES, 12, dtype=torch.float64)
        with torch.no_grad():
            for layer in self.adapters.layers.values():
                layer.lora_B.copy_(0.2 * torch.randn(layer.lora_B.shape, dtype=torch.float64))
        self.take_over(None)

    def take_over(self, update: str | None) -> None:
        """The formulas get the adapters as they are, and a fresh optimizer."""
        self.formulas.A = {name: la.lora_A.detach().clone() for name, la in self.adapters.layers.items()}
        self.formulas.B = {name: la.lora_B.detach().clone() for name, la in self.adapters.layers.items()}
        self.formulas.rows = {}
        self.update, self.optimizer = update, None
        if update is not None:
            self.optimizer = dk.NestedAdamW(
                self.adapters, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS, update=update
            )

    def fresh(self) -> Net:
        model = Net().double()
        model.load_state_dict(self.base)
        return model

    def goes_on_with(self, model: Any, adapters: dk.Adapters) -> None:
        self.model, self.adapters = model, adapters
        self.update, self.optimizer, self.formulas.rows = None, None, {}

    @precondition(lambda self: not self.merged)
    @rule(b=st.integers(1, R))
    def one_rank(self, b: int) -> None:
        self.adapters.rank = self.rank = b

    @precondition(lambda self: not self.merged)
    @rule(b=st.tuples(*(st.integers(1, r) for r in LIMITS.values())))
    def a_rank_by_layer(self, b: tuple[int, ...]) -> None:
        self.rank = dict(zip(LIMITS, b, strict=True))
        self.adapters.rank = self.rank

    @precondition(lambda self: not self.merged)
    @rule(b=st.lists(st.integers(1, R), min_size=EXAMPLES, max_size=EXAMPLES))
    def a_rank_by_example(self, b: list[int]) -> None:
        self.adapters.rank = self.rank = torch.tensor(b)

    @precondition(lambda self: not self.merged)
    @rule(update=st.sampled_from(["exact", "authors"]), frozen=st.booleans(), steps=st.integers(1, 3))
    def train(self, update: str, frozen: bool, steps: int) -> None:
        if self.update != update:
            self.take_over(update)
        assert self.optimizer is not None
        self.adapters.frozen = frozen
        for _ in range(steps):
            self.model(self.x).pow(2).mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.formulas.step(self.x, self.rank, update, frozen)
        self.adapters.frozen = False

    @precondition(lambda self: not self.merged and isinstance(self.rank, int))
    @rule(b=st.none() | st.integers(1, R))
    def merge(self, b: int | None) -> None:
        self.adapters.merge(b)
        self.rank, self.merged = self.adapters.rank, True

    @precondition(lambda self: self.merged)
    @rule()
    def unmerge(self) -> None:
        self.adapters.unmerge()
        self.merged = False

    @rule(mode=st.booleans())
    def change_mode(self, mode: bool) -> None:
        self.model.train(mode)

    @precondition(lambda self: not self.merged)
    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.adapters.save(folder)
            model = self.fresh()
            self.goes_on_with(model, dk.load(model, folder))
        self.rank = R

    @precondition(lambda self: not self.merged and not isinstance(self.rank, Tensor))
    @rule(serving=st.booleans())
    def export_and_import(self, serving: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.adapters.export_peft(folder, serving=serving)
            under_peft = peft.PeftModel.from_pretrained(self.fresh(), folder)
            imported = self.fresh()
            dk.import_peft(imported, folder)
        expected = self.formulas.forward(self.x, self.rank)
        with torch.no_grad():
            torch.testing.assert_close(imported(self.x), expected, rtol=1e-6, atol=1e-6)  # float32 in the file
            torch.testing.assert_close(under_peft(self.x), expected, rtol=1e-4, atol=1e-4)

    @rule()
    def copy_both(self) -> None:
        self.goes_on_with(*copy.deepcopy((self.model, self.adapters)))

    @rule()
    def pickle_both(self) -> None:
        self.goes_on_with(*pickle.loads(pickle.dumps((self.model, self.adapters))))

    @precondition(lambda self: not self.merged)
    @rule()
    def take_the_state_dict(self) -> None:
        model = self.fresh()
        adapters = dk.attach(model, scaling=self.adapters.scaling, **OPTIONS)
        model.load_state_dict(self.model.state_dict())
        self.goes_on_with(model, adapters)
        self.rank = R

    @precondition(lambda self: not self.merged)
    @rule()
    def round_to_float32(self) -> None:
        self.model.float().double()
        for tensors in (self.base, self.formulas.base, self.formulas.A, self.formulas.B):
            tensors.update({name: tensor.float().double() for name, tensor in tensors.items()})
        self.goes_on_with(self.model, self.adapters)

    @rule()
    def detach_and_load_again(self) -> None:
        if self.merged:
            self.unmerge()
        with tempfile.TemporaryDirectory() as folder:
            self.adapters.save(folder)
            plain = self.adapters.detach()
            for name, tensor in plain.state_dict().items():
                assert torch.equal(tensor, self.base[name]), name
            self.goes_on_with(plain, dk.load(plain, folder))
        self.rank = R

    @invariant()
    def the_output_is_that_of_the_formulas(self) -> None:
        if hasattr(self, "adapters"):
            with torch.no_grad():
                expected = self.formulas.forward(self.x, self.rank)
                mode = self.model.training
                found = self.model.eval()(self.x)
                self.model.train(mode)
                torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)

    @invariant()
    def the_base_weights_keep_every_bit(self) -> None:
        if hasattr(self, "adapters") and not self.merged:
            for name, tensor in self.model.named_parameters():
                if "lora_" not in name:
                    assert torch.equal(tensor, self.base[name.replace("base_layer.", "")]), name


def run(sequences: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    options = settings(max_examples=sequences, stateful_step_count=20, deadline=None, suppress_health_check=quiet)
    run_state_machine_as_test(Sequences, settings=options)


def test_every_sequence_gives_what_the_formulas_give() -> None:
    run(100)


@pytest.mark.by_hand
def test_every_one_of_many_sequences_gives_what_the_formulas_give() -> None:
    run(2000)
