"""The candidates of the arena: how each spends the same time on a model for every rank."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dylora_kit.baselines.in_place_distillation import InPlaceDistillation, sandwich_from_the_top
from dylora_kit.baselines.matryoshka import all_ranks_summed, keep_diagonal, start_as_published
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters, attach
from dylora_kit.paper.compared_methods import LORA, ONE, SVD, Build, built, head_of
from dylora_kit.paper.nested_afterwards import POWERS, Case
from dylora_kit.paper.settings import ALPHA, ARENA, LARGER, STEP_TIMES, R
from dylora_kit.training.loop import Loss, train
from dylora_kit.training.objectives import (
    Objective,
    individual_loss,
    mixed_loss,
    sandwich_loss,
    stratified_loss,
    summation_in_one,
)
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import Fixed, RankDistribution, RankSampler, Uniform
from dylora_kit.training.self_distillation import nest

INDIVIDUAL, MIXED, STRATIFIED = "DyLoRA, individual", "DyLoRA, a rank for each example", "DyLoRA, stratified"
SUMMATION, SANDWICH, DISTILLED = "DyLoRA, summation", "DyLoRA, sandwich", "DyLoRA, sandwich, distilled from r"
MATRYOSHKA = {"alpha/sqrt(b)": "MatryoshkaLoRA, s = 1/√k", "alpha/b": "MatryoshkaLoRA, s = 1/k"}
WITH_P = {scaling: f"{name}, P kept" for scaling, name in MATRYOSHKA.items()}
NESTED, CONT = "LoRA, nested", "LoRA, cut by SVD and trained on"
ORDERED, UNORDERED = "LoRA, ordered, then DyLoRA", "LoRA, then DyLoRA, not ordered"
ORDERED_LONG = "LoRA, ordered, then DyLoRA, in 1.3 of the time"
SUMMATION_LONG, ONE_LONG = "DyLoRA, summation, as many steps", "LoRA, one per rank, all the time for each"
BOTTLENECKS = {"parallel": "Nested bottlenecks, parallel", "houlsby": "Nested bottlenecks, Houlsby's"}
AFTER_SUBLAYERS = r".*\.(o_proj|fc2|output\.dense|down_proj)"  # in each block two, as "attention" means
REFERENCES = (ORDERED_LONG, SUMMATION_LONG, ONE_LONG)  # what has more time than the others
FIRST = 0.3  # the share of the time in which ORDERED trains at rank r alone; 0.5 was worse on validation, two seeds

Parts = list[tuple[Adapters, list[int] | None]]  # trained adapters, and the ranks that they are for (None: all)
Trained = dict[str, Parts]  # by method


@dataclass(frozen=True)
class Start:
    """What every candidate starts with: a task, a seed and a learning rate."""

    case: Case
    batch_size: int
    seed: int
    lr: float

    def fresh(
        self, r: int = R, lora_alpha: float = ALPHA, scaling: str = "alpha/b", bottleneck: str | None = None
    ) -> Adapters:
        """Adapters on a fresh model, whatever is outside its pretrained part trained along."""
        model = built(self.case.build, self.seed)
        targets = AFTER_SUBLAYERS if bottleneck == "houlsby" else "attention"
        return attach(model, r=r, lora_alpha=lora_alpha, scaling=scaling, target_modules=targets,
                      modules_to_save=head_of(model), seed=self.seed, bottleneck=bottleneck)  # fmt: skip

    def train(
        self,
        adapters: Adapters,
        steps: int,
        distribution: RankDistribution,
        objective: Objective = individual_loss,
        loss: Loss | None = None,
    ) -> Adapters:
        """The adapters after so many steps, trained in place."""
        task, sampler = self.case.task, RankSampler(distribution, seed=self.seed)
        train(adapters.model, adapters, task.train, sampler=sampler, optimizer=NestedAdamW(adapters, lr=self.lr),
              steps=steps, batch_size=self.batch_size, objective=objective, loss=loss, seed=self.seed,
              collate=task.collate, max_grad_norm=self.case.max_grad_norm, progress=False)  # fmt: skip
        return adapters


@dataclass(frozen=True)
class Budget:
    """The time that every candidate has: so many steps of the individual loss, and what steps of other kinds take."""

    steps: int
    times: dict[str, float]


def budget_of(task: str) -> Budget:
    """The budget of a task of the embedded tier."""
    return Budget(ARENA[task]["steps"], STEP_TIMES[task.partition("-")[0]])


def cannot_take(build: Build) -> set[str]:
    """The entries that a model cannot take: its query and value are fused or no plain layers, or its blocks have others
    than two layers of the known names that end their parts."""
    out: set[str] = set()
    plain = _attached(build)
    try:
        with all_ranks_summed(plain, POWERS):
            pass
    except ValueError:
        out |= set(MATRYOSHKA.values())
    for kind, name in BOTTLENECKS.items():
        try:
            layers = len(_attached(build, kind).layers)
        except ValueError:
            layers = 0
        if layers != len(plain.layers):
            out.add(name)
    return out


def _attached(build: Build, bottleneck: str | None = None) -> Adapters:
    model = build()
    targets = AFTER_SUBLAYERS if bottleneck == "houlsby" else "attention"
    return attach(model, r=R, target_modules=targets, modules_to_save=head_of(model), bottleneck=bottleneck)


@dataclass(frozen=True)
class Candidate:
    """One way to come to a model for every rank; ways that share a training are measured together.

    Attributes:
        train: does it, with as many steps as it is given for each part of its plan.
        plan: `(kind of step, share of the time)` for each part.
        ranks: for how many ranks the last part is done one after another.
        as_many: whether it has as many steps as the individual loss, whatever time they take.
        rates: the learning rates that are tried; default is `CANDIDATES`.
    """

    train: Callable[..., Trained]
    plan: tuple[tuple[str, float], ...]
    ranks: int = 1
    as_many: bool = False
    rates: tuple[float, ...] | None = None

    def steps(self, budget: Budget) -> list[int]:
        """The steps of each part that take its share of the time."""
        times = budget.times
        return [max(round(budget.steps * share / (1 if self.as_many else times[kind])), 1) for kind, share in self.plan]

    def described(self, budget: Budget) -> str:
        """The steps in words, to be kept with the results."""
        parts = [f"{n} ({kind})" for n, (kind, _) in zip(self.steps(budget), self.plan, strict=True)]
        return ", ".join(parts) + (f", {self.ranks} times" if self.ranks > 1 else "")

    def cost(self, budget: Budget) -> float:
        """The time that it takes, where one step of the individual loss takes 1."""
        costs = [n * budget.times[kind] for n, (kind, _) in zip(self.steps(budget), self.plan, strict=True)]
        return sum(costs[:-1]) + costs[-1] * self.ranks


def nested(method: str, objective: Objective, start: Start, steps: int) -> Trained:
    """A DyLoRA, b uniform on 1 … r."""
    return {method: [(start.train(start.fresh(), steps, Uniform(1, R), objective), None)]}


def bottlenecks(kind: str, start: Start, steps: int) -> Trained:
    """Bottlenecks with nested units, b uniform on 1 … r: beside query and value, or after both parts of each block."""
    adapters = start.fresh(bottleneck=kind)
    return {BOTTLENECKS[kind]: [(start.train(adapters, steps, Uniform(1, R)), None)]}


def distilled(start: Start, steps: int) -> Trained:
    """A DyLoRA whose lower ranks learn what rank r answers."""
    adapters = start.fresh()
    loss = InPlaceDistillation(adapters)
    return {DISTILLED: [(start.train(adapters, steps, Uniform(1, R), sandwich_from_the_top, loss), None)]}


def matryoshka(scaling: str, start: Start, steps: int) -> Trained:
    """MatryoshkaLoRA with powers of two as training ranks; at evaluation without its matrix P, and with it."""
    adapters = start.fresh(lora_alpha=1, scaling=scaling)
    start_as_published(adapters, start.seed)
    with all_ranks_summed(adapters, POWERS):
        start.train(adapters, steps, Fixed(R))
    _, kept = copy.deepcopy((adapters.model, adapters))
    keep_diagonal(kept, POWERS)
    return {MATRYOSHKA[scaling]: [(adapters, None)], WITH_P[scaling]: [(kept, None)]}


def lora(start: Start, steps: int) -> Trained:
    """A LoRA of rank r, cut to its first rows at α/b, and by singular values."""
    adapters = start.train(start.fresh(), steps, Fixed(R))
    return {LORA: [(adapters, None)], SVD: [(svd_cut(adapters)[1], None)]}


def nested_after(start: Start, steps: int, after: int) -> Trained:
    """A LoRA of rank r, and then `nest`, at the same learning rate."""
    adapters = start.train(start.fresh(), steps, Fixed(R))
    task = start.case.task
    nest(adapters.model, adapters, task.train, steps=after, lr=start.lr, batch_size=start.batch_size,
         max_grad_norm=start.case.max_grad_norm, seed=start.seed, collate=task.collate, progress=False)  # fmt: skip
    return {NESTED: [(adapters, None)]}


def lora_first(method: str, order: bool, start: Start, steps: int, after: int) -> Trained:
    """A LoRA of rank r, perhaps with its rows ordered by singular value, and then trained at all ranks, by labels.

    Ordered or not, it goes on at the scale of rank r.
    """
    adapters = start.train(start.fresh(), steps, Fixed(R))
    if order:
        adapters.order()
    adapters.scaling = "alpha/r"  # as `order` sets it
    return {method: [(start.train(adapters, after, Uniform(1, R), stratified_loss), None)]}


def trained_on(start: Start, steps: int, after: int) -> Trained:
    """A LoRA of rank r, cut by SVD to each rank and trained on with labels: Cont-Squeeze of LoRA-Squeeze."""
    adapters = start.train(start.fresh(), steps, Fixed(R))
    cuts = ((b, svd_cut(adapters)[1]) for b in range(1, R + 1))
    return {CONT: [(start.train(cut, after, Fixed(b)), [b]) for b, cut in cuts]}


def one_per_rank(method: str, ranks: Sequence[int], start: Start, steps: int) -> Trained:
    """A LoRA of its own for each rank."""
    return {method: [(start.train(start.fresh(r=b), steps, Fixed(b)), [b]) for b in ranks]}


def _nested(method: str, objective: Objective, kind: str) -> Candidate:
    return Candidate(partial(nested, method, objective), ((kind, 1.0),))


def _bottlenecks(kind: str) -> Candidate:
    return Candidate(partial(bottlenecks, kind), ((f"{kind} bottlenecks", 1.0),))


def _matryoshka(scaling: str) -> Candidate:
    return Candidate(partial(matryoshka, scaling), (("MatryoshkaLoRA", 1.0),), rates=LARGER)


def _lora_first(method: str, time: float = 1.0, *, order: bool = True) -> Candidate:
    plan = (("LoRA", FIRST * time), ("a rank for each example", (1 - FIRST) * time))
    return Candidate(partial(lora_first, method, order), plan)


ENTRIES: dict[str, Candidate] = {
    INDIVIDUAL: _nested(INDIVIDUAL, individual_loss, "individual"),
    MIXED: _nested(MIXED, mixed_loss, "a rank for each example"),
    STRATIFIED: _nested(STRATIFIED, stratified_loss, "a rank for each example"),
    SUMMATION: _nested(SUMMATION, summation_in_one, "summation"),
    SANDWICH: _nested(SANDWICH, sandwich_loss, "sandwich"),
    DISTILLED: Candidate(distilled, (("sandwich, distilled", 1.0),)),
    MATRYOSHKA["alpha/sqrt(b)"]: _matryoshka("alpha/sqrt(b)"),
    MATRYOSHKA["alpha/b"]: _matryoshka("alpha/b"),
    BOTTLENECKS["parallel"]: _bottlenecks("parallel"),
    BOTTLENECKS["houlsby"]: _bottlenecks("houlsby"),
    ORDERED: _lora_first(ORDERED),
    UNORDERED: _lora_first(UNORDERED, order=False),
    NESTED: Candidate(nested_after, (("LoRA", 0.5), ("nest", 0.5))),
    LORA: Candidate(lora, (("LoRA", 1.0),)),
    CONT: Candidate(trained_on, (("LoRA", 0.5), ("LoRA", 0.5 / R)), ranks=R),
    ONE: Candidate(partial(one_per_rank, ONE, range(1, R + 1)), (("LoRA", 1 / R),), ranks=R),
    ORDERED_LONG: _lora_first(ORDERED_LONG, 1.3),
    SUMMATION_LONG: Candidate(partial(nested, SUMMATION_LONG, summation_in_one), (("summation", 1.0),), as_many=True),
    ONE_LONG: Candidate(partial(one_per_rank, ONE_LONG, POWERS), (("LoRA", 1.0),), ranks=len(POWERS)),
}
