"""A LoRA of a causal model and its ranks afterwards: on twenty real inputs of E2E, by a random GPT-2."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from generation_files import write_e2e

from dylora_kit import backbones
from dylora_kit.paper import __main__ as command
from dylora_kit.paper import generation, nested_texts
from dylora_kit.paper.compared_methods import LORA, SVD
from dylora_kit.paper.nested_afterwards import NESTED
from dylora_kit.paper.runs import read_results

WORDS = ["--tier", "real", "--tasks", "e2e", "--limit", "3", "--beams", "1"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A random GPT-2 and its tokenizer; short texts and few steps."""
    monkeypatch.setattr(generation, "NEW_TOKENS", 8)
    monkeypatch.setattr(generation, "_has_meteor", lambda: False)
    monkeypatch.setattr(generation, "OWN", ())
    monkeypatch.setattr(nested_texts, "STEPS", 4)
    monkeypatch.setattr(nested_texts, "RATES", (1e-2,))
    monkeypatch.setenv("DYLORA_KIT_DATA", str(write_e2e(tmp_path / "data")))
    generation.real.cache_clear()
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, vocab_size=1470, bos_token_id=0,
                                     eos_token_id=2)  # fmt: skip
    folder = str(tmp_path / "models" / "tiny")
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    backbones.tokenizer("world-gpt2").save_pretrained(folder)
    return folder


def run(*words: str) -> None:
    command.run(command.parser().parse_args(list(words)))


def test_the_lora_of_table_6_is_cut_and_taught_and_writes_at_every_rank(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [*WORDS, "--model", tiny, "--out", str(out)]
    with pytest.raises(
        FileNotFoundError, match=r"there is no table6-tiny-e2e-lora-cut-to-b among the adapters: .* run"
    ):
        run("nested", *words)
    run("table6", *words, "--steps", "30", "--lr", "0.02")
    capsys.readouterr()
    run("nested", *words)
    frame = read_results(out / "results" / "nested-tiny-e2e.csv")
    assert {(row.method, row.rank) for row in frame.itertuples() if row.metric == "bleu"} == {
        (method, rank) for method in (SVD, NESTED) for rank in (1, 2, 3, 4)
    }
    apart = frame[frame["metric"] == "divergence"].set_index(["method", "rank"])["value"]
    assert set(apart.index.get_level_values("rank")) == {1, 2, 4}
    assert abs(apart[SVD, 4]) < 1e-6 < apart[SVD, 1]
    assert set(frame["steps_after"]) == {4} and set(frame["limit"]) == {3} and set(frame["num_beams"]) == {1}
    cut = read_results(out / "results" / "table6-tiny-e2e.csv").query("method == @SVD and metric != 'empty'")
    again = frame.query("method == @SVD and metric != 'divergence' and metric != 'empty'")
    shared = ["rank", "metric"]
    both = cut.merge(again, on=shared, suffixes=("", "_again"))
    assert len(both) == len(cut) > 8 and (both["value"] == both["value_again"]).all()
    assert set(cut["method"]) == {SVD} and LORA != SVD
    run("nested", *words, "--list")
    assert "nested, e2e: 1 of 1 measurements are done in nested-tiny-e2e.csv\n" in capsys.readouterr().out


def test_its_time_follows_from_a_step_and_a_text(tiny: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generation, "timing", lambda *_: (2.0, 0.5, 0))
    monkeypatch.setattr(nested_texts, "RATES", (1e-3, 1e-2))
    (job,) = nested_texts.study(tiny, batch_size=None, limit=3, beams=1).jobs("e2e", 10, tmp_path)
    assert job.seconds == 2 * 4 * 3.5 * 2.0 + 2 * 4 * 3 * 0.5


def test_the_lora_that_is_kept_is_not_told_as_one_of_another_seed(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the LoRA that table6 keeps is that of seed 10: leave out --seeds 42"):
        nested_texts.study(tiny, batch_size=None, limit=3, beams=1).jobs("e2e", 42, tmp_path)


def test_the_table_has_a_line_for_each_method_and_measure(tmp_path: Path) -> None:
    rows = [
        {"method": method, "rank": rank, "metric": metric, "value": value, "seed": 10}
        for method, value in ((SVD, 0.25), (NESTED, 0.5))
        for metric in ("bleu", "slot error rate", "divergence")
        for rank in (1, 2)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "nested-tiny-e2e.csv", index=False)
    table = nested_texts.table(tmp_path)
    assert [(row["method"], row["measured"], row["rank 1"]) for row in table] == [
        (SVD, "BLEU", "25.0"), (SVD, "slot error rate", "25.0"), (SVD, "divergence", "0.250"),
        (NESTED, "BLEU", "50.0"), (NESTED, "slot error rate", "50.0"), (NESTED, "divergence", "0.500"),
    ]  # fmt: skip
    assert {row["model"] for row in table} == {"tiny on E2E"}
