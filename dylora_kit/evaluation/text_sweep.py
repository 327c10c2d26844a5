"""Sweep by generation: what one trained model writes at every rank, how good that is, and the texts themselves."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dylora_kit.core.handle import Adapters
from dylora_kit.core.rank import check_rank
from dylora_kit.evaluation.text_metrics import METRICS, scores
from dylora_kit.evaluation.writing import write
from dylora_kit.progress import progress_bar
from dylora_kit.training.data_fingerprint import hash_of

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
Score = Callable[[Sequence[str], Sequence[Row]], Mapping[str, float]]


def sweep_texts(
    model: nn.Module,
    adapters: Adapters,
    rows: Sequence[Row],
    tokenizer: Any,
    *,
    max_new_tokens: int,
    ranks: Iterable[int] | None = None,
    metrics: Sequence[str] | Score = ("bleu", "nist", "rouge-l", "cider"),
    tool: str = "e2e",
    out: str | os.PathLike[str] | None = None,
    prompt: Callable[[Row], str] | None = None,
    method: str = "DyLoRA",
    seed: int | None = None,
    batch_size: int = 100,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    progress: bool = True,
) -> "pd.DataFrame":
    """Has a model write a text of each row at several ranks, and scores the texts. The rank is afterwards what it was.

    Arguments:
        adapters: the handle on the model's adapters.
        rows: with `"first"`, which the model is given, and `"references"`, such as the test part of `tasks.e2e`.
        ranks: default is 1 to r.
        metrics, tool: as in `text_metrics.scores`; or a function of texts and rows to `{name: value}`, such as `scores`
            of `tasks.describe`.
        out: a file of JSON lines for the texts: the first line says what they were written with, and each other one has
            rank, row (counted from 0), prompt and text. A batch goes there as soon as it is written, and what is there
            is not written again.
        prompt: what of a row the model is given; default is its `"first"`.
        method, seed: go into the frame as they are.
        max_new_tokens, batch_size, num_beams, length_penalty, no_repeat_ngram_size: as in `write`.

    Returns a tidy frame with the columns method, rank, metric, value, seed, one row per rank and metric, as `sweep`
    does. Raises `ValueError` for a file whose texts come from other weights, prompts or settings, or that is no file of
    texts, for rows without what they need, and for what `write` and `scores` refuse.
    """
    import pandas as pd

    adapters.check_usable(model)
    ranks = list(dict.fromkeys(check_rank(rank, adapters.r) for rank in ranks or range(1, adapters.r + 1)))
    _check_rows(rows, metrics)
    prompts = [row["first"] if prompt is None else prompt(row) for row in rows]
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "length_penalty": length_penalty,
                           "no_repeat_ngram_size": no_repeat_ngram_size}  # fmt: skip
    kept = TextFile(
        None if out is None else Path(out), {"weights": _weights(adapters), "prompts": hash_of(prompts)} | how
    )
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))  # batches with little padding
    missing = {rank: [number for number in order if (rank, number) not in kept.texts] for rank in ranks}
    total = len(ranks) * len(prompts)
    with progress_bar(total, "writing", show=progress, initial=total - sum(map(len, missing.values()))) as bar:
        for rank, numbers in missing.items():
            bar.set_postfix(rank=rank)
            for start in range(0, len(numbers), batch_size):
                part = numbers[start : start + batch_size]
                with adapters.at(rank):
                    texts = write(model, tokenizer, [prompts[number] for number in part], batch_size=batch_size, **how)
                kept.add(rank, {number: (prompts[number], text) for number, text in zip(part, texts, strict=True)})
                bar.update(len(part))
    frames = []
    for rank in ranks:
        texts = [kept.texts[rank, number] for number in range(len(rows))]
        values = metrics(texts, rows) if callable(metrics) else scored(texts, rows, metrics, tool)
        frames += [(method, rank, name, value, seed) for name, value in values.items()]
    return pd.DataFrame(frames, columns=["method", "rank", "metric", "value", "seed"])


def scored(texts: Sequence[str], rows: Sequence[Row], metrics: Sequence[str], tool: str) -> dict[str, float]:
    """The metrics by name of texts against the references of their rows."""
    return scores(texts, [row["references"] for row in rows], metrics, tool=tool)


class TextFile:
    """Texts by rank and row, and the file of JSON lines that they are kept in, if there is one.

    Arguments:
        settings: what texts depend on; a file with others is refused by the first that differs.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self.path, self.texts = path, dict[tuple[int, int], str]()
        if path is None:
            return
        if path.is_file() and path.stat().st_size:
            self._read(path, settings)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"written with": settings}) + "\n", encoding="utf-8")

    def add(self, rank: int, written: Mapping[int, tuple[str, str]]) -> None:
        """Puts the texts of a batch at the end, `{row: (prompt, text)}`."""
        self.texts |= {(rank, number): text for number, (_, text) in written.items()}
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            for number, (prompt, text) in written.items():
                line = {"rank": rank, "row": number, "prompt": prompt, "text": text}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _read(self, path: Path, settings: Mapping[str, Any]) -> None:
        """The texts of a file. A last line that is cut off, as of a run that was killed, is taken out."""
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.decode("utf-8").split("\n")[:-1]]
            saved = first["written with"]
            texts = {(int(line["rank"]), int(line["row"])): str(line["text"]) for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file of texts, or is damaged ({error}): name another one") from None
        for key in dict.fromkeys([*settings, *saved]):
            if saved.get(key) != settings.get(key):
                raise ValueError(
                    f"{path} has texts with {key} = {saved.get(key)}, now it is {settings.get(key)}: name another file"
                )
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        self.texts = texts


def _weights(adapters: Adapters) -> str:
    """A hash of what the model writes by: the adapters' weights and scale, and the base under them."""
    settings = {key: value for key, value in adapters.settings().items() if key not in ("lora_dropout", "frozen")}
    return hash_of([dict(adapters.tensors()), settings, adapters.base.fingerprint])


def _check_rows(rows: Sequence[Row], metrics: Sequence[str] | Score) -> None:
    if not len(rows):
        raise ValueError("there are no rows to write a text of")
    if not callable(metrics):
        unknown = [name for name in metrics if name not in METRICS]
        if unknown:
            raise ValueError(f"unknown metric {unknown[0]!r}: expected some of {', '.join(map(repr, METRICS))}")
        lacking = [number for number, row in enumerate(rows) if not row.get("references")]
        if lacking:
            raise ValueError(f"row {lacking[0]} has no 'references' to score a text against")
