"""The rank advisor: from one trained model, which rank to take, how sure that is, and what each rank costs."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from dylora_kit.core.base_record import modules_in_base
from dylora_kit.core.handle import Adapters
from dylora_kit.core.rank import check_rank
from dylora_kit.evaluation.advice import Advice
from dylora_kit.evaluation.at_ranks import Forward, KeptOutputs, outputs_of, required_labels, run_at_ranks
from dylora_kit.evaluation.metrics import METRICS, metric_named
from dylora_kit.evaluation.select_rank import bootstrap, latency, smallest_rank
from dylora_kit.evaluation.serving_limits import vllm_max_lora_rank
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.storage.base_model import opened_as
from dylora_kit.storage.peft_files import Block, ranks_and_alphas
from dylora_kit.training.batches import Batch, Collate
from dylora_kit.training.next_token import Shift

if TYPE_CHECKING:
    import pandas as pd

MIDDLE = (0.025, 0.975)  # between these quantiles lie the middle 95%


def advise(
    model: nn.Module,
    adapters: Adapters,
    data: Any = None,
    *,
    frame: "pd.DataFrame | None" = None,
    metric: str = "accuracy",
    tolerance: float = 0.01,
    ranks: Iterable[int] | None = None,
    resamples: int = 200,
    batch: Any = None,
    batch_size: int = 64,
    collate: Collate | None = None,
    forward: Forward | None = None,
    shift: bool | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Advice:
    """The smallest rank that is good enough, how sure that is, what each rank costs, and when DyLoRA is not worth it.

    Nothing is trained, and the rank is afterwards what it was. In use:

        advice = dk.advise(model, adapters, task.validation, tolerance=0.02)
        print(advice)
        adapters.rank = advice

    Arguments:
        adapters: what `attach`, `load` or `nest_peft` returned.
        data: labelled examples to choose on, as in `sweep`; such as a validation part, not those that are reported on.
            By a metric of `METRICS` all outputs at all ranks are in memory, as in `predict`, to draw examples anew.
        frame: instead of data, what `sweep` returned for these adapters, with one seed or several.
        metric: a name of `METRICS`; or `"loss"` or `"perplexity"`, of which one sweep is made and nothing is drawn.
        tolerance: how much worse than the best is good enough, in the metric's own unit.
        ranks: which are compared, at least two; default is 1 to r, or those of the frame.
        resamples: how many times the examples are drawn anew, with replacement.
        batch: if given, as in `latency`, a forward pass of it is timed at each rank.
        batch_size, collate, forward, shift, progress: as in `sweep`.
        seed: of the resamples.

    Raises `ValueError` for both or neither of data and frame, a frame of other adapters or without the metric, fewer
    than two ranks, a tolerance below 0, adapters that are merged, and data that does not fit; `TypeError` for a handle
    on something else than LoRA layers.

    >>> import pandas as pd
    >>> from dylora_kit.core.adapters import attach
    >>> model = nn.Sequential(nn.Linear(6, 5))
    >>> adapters = attach(model, r=3, target_modules=["0"])
    >>> frame = pd.DataFrame({"rank": [1, 2, 3], "metric": "accuracy", "value": [0.7, 0.895, 0.9], "seed": 0})
    >>> advise(model, adapters, frame=frame).peft_code()
    "LoraConfig(r=2, lora_alpha=16, target_modules=['0'])"
    """
    _check(model, adapters, data, frame, tolerance, resamples)
    chosen = None if ranks is None else [check_rank(rank, adapters.r) for rank in ranks]
    if frame is not None:
        values = _rows_of(frame, metric, adapters, chosen)
        seeds = int(values["seed"].nunique())
        resampled, drawn = (f"{seeds} seeds", values) if seeds > 1 else ("", None)
    else:
        compared = _at_least_two(range(1, adapters.r + 1) if chosen is None else chosen)
        how: dict[str, Any] = {"batch_size": batch_size, "collate": collate, "forward": forward, "shift": shift,
                               "progress": progress}  # fmt: skip
        if metric in METRICS:
            outputs, labels = _outputs(model, adapters, data, compared, **how)
            values = _values(outputs, labels, metric)
            drawn = bootstrap(outputs, labels, metric=metric, resamples=resamples, seed=seed)
            resampled = f"{resamples} resamples of the {len(labels)} examples"
        else:
            values = sweep(model, adapters, data, metric=metric, ranks=compared, **how)
            resampled, drawn = "", None
    told: dict[str, Any] = {}
    if frame is None and metric in METRICS:
        told = {"examples": len(labels), "commonest": _commonest(labels) if metric == "accuracy" else None}
    choice = smallest_rank(values, tolerance=tolerance)
    shares = {} if drawn is None else smallest_rank(drawn, tolerance=tolerance).shares
    spread = _spread(values, drawn, shares)
    return Advice(
        rank=choice.rank,
        choice=choice,
        tolerance=tolerance,
        metric=metric,
        r=adapters.r,
        resampled=resampled,
        shares=shares,
        interval=_interval(shares),
        ranks=spread.merge(_costs(model, adapters, spread["rank"], batch, forward), on="rank"),
        config=_config(adapters, choice.rank),
        **told,
    )


def _check(
    model: nn.Module, adapters: Adapters, data: Any, frame: "pd.DataFrame | None", tolerance: float, resamples: int
) -> None:
    if not isinstance(adapters, Adapters):
        raise TypeError(f"advise needs what attach, load or nest_peft returned: got a {type(adapters).__name__}")
    if (data is None) == (frame is None):
        raise ValueError("give either data or the frame of a sweep: " + ("got neither" if data is None else "got both"))
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more: got {tolerance!r}")
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more: got {resamples!r}")
    adapters.check_usable(model)
    adapters.check_unmerged("asking for advice")
    for layer in adapters.layers.values():
        layer.check_product("advice on what to export")


def _rows_of(frame: "pd.DataFrame", metric: str, adapters: Adapters, ranks: list[int] | None) -> "pd.DataFrame":
    """The rows of a sweep by one metric, at these ranks; `ValueError` if it cannot be of these adapters."""
    for column in ("rank", "metric", "value", "seed"):
        if column not in frame:
            raise ValueError(f"the frame has no column {column!r}: pass the result of a sweep")
    rows = frame[frame["metric"] == metric]
    if rows.empty:
        there = ", ".join(map(str, frame["metric"].unique())) or "none"
        raise ValueError(f"the frame has no rows of the metric {metric!r}, only of {there}: name that in metric=…")
    beyond = rows.loc[~rows["rank"].isin(range(1, adapters.r + 1)), "rank"]
    if len(beyond):
        raise ValueError(
            f"the frame has rank {beyond.iloc[0]}, and these adapters have 1 to {adapters.r}: pass their own sweep"
        )
    lacking = sorted(set(ranks or ()) - set(rows["rank"]))
    if lacking:
        raise ValueError(f"the frame has no rank {lacking[0]}: sweep it, or leave it out of ranks")
    rows = rows if ranks is None else rows[rows["rank"].isin(ranks)]
    _at_least_two(rows["rank"])
    return rows


def _commonest(labels: np.ndarray) -> float | None:
    """The share of the commonest label; None where there are several for an example.

    >>> _commonest(np.array([0, 1, 1, 2]))
    0.5
    """
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels)) if labels.ndim == 1 else None


def _at_least_two(ranks: Iterable[int]) -> list[int]:
    ranks = sorted(set(ranks))
    if len(ranks) < 2:
        there = f"only rank {ranks[0]}" if ranks else "no rank"
        raise ValueError(f"there is {there}, so nothing to choose: compare at least two ranks")
    return ranks


def _outputs(
    model: nn.Module, adapters: Adapters, data: Any, ranks: list[int], *, shift: bool | None, **how: Any
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The outputs by rank, `{rank: (n, …)}`, and the labels (n, …) that a metric compares them with."""
    decided, kept = Shift(adapters.model, shift), KeptOutputs(ranks)

    def add(rank: int, batch: Batch, output: Any) -> None:
        loss = getattr(output, "loss", None)
        outputs, labels = decided.applied(outputs_of(output, batch), required_labels(batch), loss)
        kept.add(rank, {**batch, "labels": labels}, outputs)

    return kept.arrays(run_at_ranks(model, adapters, data, ranks, add, **how))


def _values(outputs: Mapping[int, np.ndarray], labels: np.ndarray, metric: str) -> "pd.DataFrame":
    """A sweep's frame, from outputs; a rank with outputs that are not finite has no value."""
    import pandas as pd

    score = metric_named(metric)
    rows = [(b, score(of, labels) if np.isfinite(of).all() else float("nan")) for b, of in outputs.items()]
    return pd.DataFrame(rows, columns=["rank", "value"]).assign(metric=metric, seed=0)


def _spread(values: "pd.DataFrame", drawn: "pd.DataFrame | None", shares: Mapping[int, float]) -> "pd.DataFrame":
    """One row for each rank: its value, where the middle 95% of what was drawn lie, and the share that chooses it."""
    import pandas as pd

    table = values.groupby("rank")["value"].agg(lambda of: of.mean(skipna=False)).reset_index()
    table.insert(1, "metric", values["metric"].iloc[0])
    for name, quantile in zip(("low", "high"), MIDDLE, strict=True):
        nothing = pd.Series(dtype=float)
        table[name] = table["rank"].map(nothing if drawn is None else drawn.groupby("rank")["value"].quantile(quantile))
    table["share"] = [float("nan") if drawn is None else shares.get(rank, 0.0) for rank in table["rank"]]
    return table


def _interval(shares: Mapping[int, float]) -> tuple[int, int] | None:
    """The ranks at both ends of the middle 95% of choices."""
    if not shares:
        return None
    ranks = sorted(shares)
    below = np.cumsum([shares[rank] for rank in ranks])
    low, high = (ranks[int((below < quantile - 1e-9).sum())] for quantile in MIDDLE)
    return low, high


def _costs(
    model: nn.Module, adapters: Adapters, ranks: Iterable[int], batch: Any, forward: Forward | None
) -> "pd.DataFrame":
    """What each rank takes: parameters, bytes as exported, milliseconds, and what an engine has to allow."""
    import pandas as pd

    seconds = {} if batch is None else latency(model, adapters, batch, forward=forward)
    rows = []
    for rank in ranks:
        blocks = adapters.blocks(rank)
        stored, exported = sum(A.numel() + B.numel() for A, B, _ in blocks.values()), _largest(blocks)
        milliseconds = 1000 * seconds.get(rank, float("nan"))
        rows.append((rank, adapters.num_parameters(rank), 2 * stored, 4 * stored, milliseconds, exported,
                     vllm_max_lora_rank(exported)))  # fmt: skip
    columns = ["rank", "parameters", "bytes_float16", "bytes_float32", "milliseconds", "exported_rank",
               "vllm_max_lora_rank"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"vllm_max_lora_rank": "Int64"})


def _largest(blocks: Mapping[str, Block]) -> int:
    return max(len(A) for A, _, _ in blocks.values())


def _config(adapters: Adapters, rank: int) -> dict[str, Any]:
    """The arguments of PEFT's `LoraConfig` for a LoRA of a rank on the layers of these adapters, without those unused.

    The scale of each layer is that of the adapters at the rank.
    """
    blocks, base, rslora = adapters.blocks(rank), adapters.base, adapters.config["scaling"] == "alpha/sqrt(b)"
    fields = ranks_and_alphas({name: (len(A), scale) for name, (A, _, scale) in blocks.items()}, rslora=rslora)
    fields["lora_alpha"] = _whole(fields["lora_alpha"])
    fields["alpha_pattern"] = {name: _whole(alpha) for name, alpha in fields["alpha_pattern"].items()}
    saved = list(adapters.saved_modules)
    others = {
        "lora_dropout": adapters.config["lora_dropout"],
        "use_rslora": rslora,
        "fan_in_fan_out": base.transposed,
        "modules_to_save": saved,
        "task_type": opened_as(base, saved)["task_type"],
    }
    targets = {"target_modules": _targets(adapters, list(blocks))}
    return {name: value for name, value in (fields | targets | others).items() if value}


def _whole(number: float) -> float:
    """A number as an int where it is one but for rounding."""
    return round(number) if math.isclose(number, round(number)) else number


def _targets(adapters: Adapters, names: list[str]) -> list[str] | str:
    """Names for PEFT: the ends of the layers' names if no other module ends so, or a pattern of the whole names."""
    ends = sorted({name.rpartition(".")[2] for name in names})
    matched = {name for name in modules_in_base(adapters.model) if name.rpartition(".")[2] in ends}
    return ends if matched == set(names) else "|".join(map(re.escape, names))
