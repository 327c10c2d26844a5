"""What the rank advisor found, to read, to print and to paste."""

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from dylora_kit.evaluation.measured_before import how_often_right, would_one_lora_do_better
from dylora_kit.evaluation.select_rank import Choice
from dylora_kit.evaluation.serving_limits import serving

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Advice:
    """A rank, why, how sure that is, and what each rank costs. It can be assigned wherever a rank can.

    Attributes:
        rank: the smallest rank within the tolerance of the best.
        choice: the `Choice` of `smallest_rank`, by the values themselves.
        tolerance: how much worse than the best is good enough, in the metric's own unit.
        metric: its name.
        r: the maximum rank of the adapters.
        resampled: what was drawn to say how sure the choice is, such as "200 resamples of the 597 examples"; "" if
            nothing could be. Resamples say what the choice owes to the examples, not to the training.
        shares: the share of these that, each by itself, would choose a rank: `{rank: share}`; they add up to 1.
        interval: the lowest and highest rank between which the middle 95% of these choose; None if there are none.
        ranks: a frame with one row for each rank: rank, metric, value; low and high, between which the middle 95% of
            the resamples have it; share; parameters; bytes_float16 and bytes_float32, of A and B as `export_peft`
            writes them; milliseconds of a forward pass, if they were measured; exported_rank, which is larger than the
            rank where projections are fused; vllm_max_lora_rank, the smallest setting of vLLM that takes it.
        config: what `peft_config` returns.
        examples: how many examples the values are of; None where it was not told.
        commonest: the accuracy of an answer that is always the commonest class; None by other metrics.
    """

    rank: int
    choice: Choice
    tolerance: float
    metric: str
    r: int
    resampled: str
    shares: dict[int, float]
    interval: tuple[int, int] | None
    ranks: "pd.DataFrame"
    config: dict[str, Any]
    examples: int | None = None
    commonest: float | None = None

    def __index__(self) -> int:
        return self.rank

    def peft_config(self) -> dict[str, Any]:
        """The arguments of PEFT's `LoraConfig` for one LoRA of this rank, on the same layers and with the same scale.

        In use: `get_peft_model(model, LoraConfig(**advice.peft_config()))`. Of a fused projection that was split the
        rank is that of all its parts.
        """
        return dict(self.config)

    def peft_code(self) -> str:
        """The same as Python to paste, such as `LoraConfig(r=3, lora_alpha=16, target_modules=['query'])`."""
        return f"LoraConfig({', '.join(f'{name}={value!r}' for name, value in self.config.items())})"

    def sentences(self) -> list[str]:
        """Which rank and why, how sure, what it costs, and when a plain LoRA is the better choice.

        Of a model that is no better than the commonest class nothing is advised.
        """
        if self._nothing_learned:
            return [
                f"No rank is better than to answer always with the commonest class, whose {self.metric} is "
                f"{self.commonest:.4g}: there is nothing to choose between, so train longer, or at another rate."
            ]
        return [
            self._which(),
            *self._doubts(),
            self._how_sure(),
            how_often_right(self.r),
            *self._costs(),
            would_one_lora_do_better(self.rank, self.r),
            self._worth(),
        ]

    def _which(self) -> str:
        best, values = self.choice.best, self.choice.values
        if self.rank == best:
            return f"Take rank {self.rank} of {self.r}: its {self.metric}, {values[best]:.4g}, is the best."
        return (
            f"Take rank {self.rank} of {self.r}: its {self.metric} is {values[self.rank]:.4g}. The best is "
            f"{values[best]:.4g} at rank {best}, and your tolerance is {self.tolerance:g}."
        )

    @property
    def _nothing_learned(self) -> bool:
        return self.commonest is not None and self.choice.values[self.choice.best] <= self.commonest

    def _doubts(self) -> list[str]:
        """What speaks against any choice: too little was learned, or there are too few examples."""
        doubts = []
        low = self.ranks.set_index("rank")["low"][self.choice.best]
        if self.commonest is not None and low <= self.commonest:
            doubts.append(
                f"This may be no better than to answer always with the commonest class, whose {self.metric} is "
                f"{self.commonest:.4g}."
            )
        if self.metric == "accuracy" and self.examples and 1 / self.examples > self.tolerance:
            doubts.append(
                f"One of the {self.examples} examples is {1 / self.examples:.2g}, more than your tolerance: choose on "
                "more examples, or allow more."
            )
        return doubts

    def _how_sure(self) -> str:
        if self.interval is None:
            return "How sure this is cannot be said from one sweep: pass data instead, or sweeps of several seeds."
        share, (low, high) = self.shares.get(self.rank, 0.0), self.interval
        spread = f", and the middle 95% choose ranks {low} to {high}" if low < high else ""
        doubt = " So this is far from sure: look at the values of the others." if share < 0.5 else ""
        return f"Of {self.resampled} {share:.0%} choose rank {self.rank}{spread}.{doubt}"

    def _costs(self) -> list[str]:
        rows = self.ranks.set_index("rank")
        row, last = rows.loc[self.rank], rows.iloc[-1]
        size = f"{_bytes(row['bytes_float16'])} in float16, {_bytes(row['bytes_float32'])} in float32"
        share = f": {row['parameters'] / last['parameters']:.0%} of rank {rows.index[-1]}"
        sentences = [f"It has {row['parameters']:,} parameters ({size}){share if self.rank < rows.index[-1] else ''}."]
        if row["milliseconds"] == row["milliseconds"]:
            sentences.append(
                f"A forward pass of your batch takes {row['milliseconds']:.3g} ms, at rank {rows.index[-1]} "
                f"{last['milliseconds']:.3g} ms."
            )
        return [*sentences, serving(int(row["exported_rank"]))]

    def _worth(self) -> str:
        if self.rank == self.ranks["rank"].min():
            return (
                f"The curve is flat: the lowest rank is good enough, so DyLoRA is not worth it here. One LoRA of rank "
                f"{self.rank} is all you need."
            )
        alone = f"If you ship rank {self.rank} alone and can train again, train one LoRA of that rank."
        if self.rank == self.r:
            return f"No rank below the largest is good enough, so a larger r may be better still. {alone}"
        return f"{alone} DyLoRA is worth it while you do not know the rank, or if you ship more than one."

    def __repr__(self) -> str:
        to_paste = [] if self._nothing_learned else [f"For PEFT: {self.peft_code()}"]
        return "\n".join([*self.sentences(), *to_paste])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences())
        frame = self.ranks.dropna(axis="columns", how="all")
        table = frame.to_html(index=False, na_rep="–", float_format="{:.4g}".format, border=0)
        to_paste = "" if self._nothing_learned else f"<p>For PEFT:</p><pre>{escape(self.peft_code())}</pre>"
        return f"<ul>{items}</ul>{table}{to_paste}"


def _bytes(number: float) -> str:
    """A number of bytes, to read.

    >>> _bytes(18432), _bytes(20_500_000)
    ('18.4 kB', '20.5 MB')
    """
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{number / 1e3:,.1f} kB"
