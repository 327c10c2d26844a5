"""The rank advisor: the choice is that of `smallest_rank`, what it tells is so, and the config opens in plain PEFT."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toys import TARGETS, R, Toy, adapted, examples, toy

import dylora_kit as dk
from dylora_kit.baselines.autoencoder import Autoencoder
from dylora_kit.evaluation.advice import Advice
from dylora_kit.evaluation.measured_before import measured_ahead, would_one_lora_do_better
from dylora_kit.evaluation.select_rank import bootstrap
from dylora_kit.evaluation.serving_limits import serving

SIZES = (6 + 10) + (10 + 7)  # d_in + d_out of both layers


def frame_of(*seeds: list[float], metric: str = "accuracy") -> pd.DataFrame:
    """A sweep with one list of values, rank by rank, for each seed."""
    rows = [
        ("DyLoRA", rank, metric, value, seed)
        for seed, values in enumerate(seeds)
        for rank, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"])


def advice_of(*seeds: list[float], metric: str = "accuracy", **options) -> Advice:
    model = toy()
    return dk.advise(model, adapted(model), frame=frame_of(*seeds, metric=metric), metric=metric, **options)


def learned(model: nn.Module, data: list, every: int = 4) -> list:
    """Examples whose labels are the model's own answers, but for the first and some more, by default every fourth."""
    training = model.training
    with torch.no_grad():
        found = model.eval()(torch.stack([row["x"] for row in data])).logits.argmax(-1)
    model.train(training)
    return [row if n % every == 0 else row | {"labels": found[n]} for n, row in enumerate(data)]


def test_a_model_that_knows_the_commonest_class_alone_gets_no_advice():
    model = toy()
    adapters = adapted(model)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([5.0, 0, 0, 0, 0])[: len(model.classifier.bias)])
    data = [row | {"labels": torch.tensor(min(n % 3, 1))} for n, row in enumerate(examples(60))]  # 20 zeros, 40 ones
    for commonest in (data, [row | {"labels": 1 - row["labels"]} for row in data]):
        advice = dk.advise(model, adapters, commonest, progress=False)
        assert advice.commonest == pytest.approx(2 / 3)
        assert str(advice).startswith("No rank is better than to answer always with the commonest class")
        assert "LoraConfig" not in str(advice) + advice._repr_html_() and "all you need" not in str(advice)


def test_few_examples_are_a_doubt():
    model = toy()
    adapters = adapted(model)
    few = str(dk.advise(model, adapters, learned(model, examples(60)), progress=False))
    assert "One of the 60 examples is 0.017, more than your tolerance: choose on more examples" in few
    assert "may be no better" not in few
    half = dk.advise(model, adapters, learned(model, examples(60), every=2), progress=False)
    assert half.ranks["low"].max() <= half.commonest < half.ranks["value"].max()
    assert (
        f"This may be no better than to answer always with the commonest class, whose accuracy is {half.commonest:.4g}."
        in str(half)
    )
    enough = str(dk.advise(model, adapters, learned(model, examples(60)), tolerance=0.02, progress=False))
    assert "One of the" not in enough
    skewed = [row | {"labels": row["labels"] * 0 + int(n == 0)} for n, row in enumerate(examples(60))]
    assert "commonest" not in str(advice_of([0.5, 0.6, 0.7, 0.8]))  # a frame does not tell its labels
    assert dk.advise(model, adapters, skewed, progress=False).commonest == pytest.approx(59 / 60)


@pytest.mark.parametrize(
    ("values", "tolerance", "expected"),
    [([0.6, 0.86, 0.89, 0.9], 0.0, 4), ([0.6, 0.86, 0.89, 0.9], 0.01, 3), ([0.6, 0.86, 0.89, 0.9], 0.05, 2),
     ([0.9, 0.9, 0.9, 0.9], 0.0, 1), ([0.5, 0.9, 0.7, 0.6], 0.01, 2)],
)  # fmt: skip
def test_the_rank_is_the_smallest_within_the_tolerance(values, tolerance, expected):
    advice = advice_of(values, tolerance=tolerance)
    assert advice.rank == expected == dk.smallest_rank(frame_of(values), tolerance=tolerance).rank


def test_of_a_loss_less_is_better():
    assert advice_of([0.9, 0.31, 0.3, 0.5], metric="loss", tolerance=0.02).rank == 2


def test_data_is_swept_and_drawn_anew_and_the_rank_is_what_it_was():
    model = toy()
    adapters = adapted(model)
    data = learned(model, examples(60))
    adapters.rank = 2
    advice = dk.advise(model, adapters, data, tolerance=0.02, resamples=50, progress=False)
    swept = dk.sweep(model, adapters, data, progress=False)
    assert advice.ranks["value"].tolist() == pytest.approx(swept["value"].tolist())
    assert advice.rank == dk.smallest_rank(swept, tolerance=0.02).rank
    outputs, labels = dk.predict(model, adapters, data, ranks=range(1, R + 1))
    drawn = bootstrap(outputs, labels, resamples=50)
    assert advice.shares == dk.smallest_rank(drawn, tolerance=0.02).shares
    assert sum(advice.shares.values()) == pytest.approx(1) == advice.ranks["share"].sum()
    low, value, high = (advice.ranks[name] for name in ("low", "value", "high"))
    assert (low <= value).all() and (value <= high).all() and (low < high).all()
    assert "Of 50 resamples of the 60 examples" in str(advice)
    assert adapters.rank == 2 and model.training


def test_the_interval_is_where_the_middle_of_the_choices_lies():
    rising, early = [0.1, 0.2, 0.3, 0.9], [0.1, 0.9, 0.9, 0.9]
    advice = advice_of(*[early] * 39, rising, tolerance=0.0)
    assert advice.shares == {2: 39 / 40, 4: 1 / 40} and advice.interval == (2, 2)
    assert advice_of(*[early] * 19, rising, tolerance=0.0).interval == (2, 4)
    text = str(advice_of(*[early] * 19, rising, tolerance=0.0))
    assert "Of 20 seeds 5% choose rank 4, and the middle 95% choose ranks 2 to 4." in text


def test_one_sweep_says_nothing_of_how_sure_it_is():
    advice = advice_of([0.5, 0.9, 0.9, 0.9])
    assert advice.shares == {} and advice.interval is None
    assert "How sure this is cannot be said from one sweep" in str(advice)
    assert advice.ranks[["low", "high", "share"]].isna().all(axis=None)


def test_a_loss_of_data_is_swept_once():
    model = toy()
    advice = dk.advise(model, adapted(model), examples(40), metric="loss", progress=False)
    swept = dk.sweep(model, dk.handle_of(model), examples(40), metric="loss", progress=False)
    assert advice.ranks["value"].tolist() == pytest.approx(swept["value"].tolist()) and advice.interval is None


@pytest.mark.parametrize(("shift", "same"), [(None, True), (True, True), (False, False)])
def test_a_causal_model_is_compared_with_the_next_token_as_in_a_sweep(shift, same):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=12, n_layer=1, n_head=2))
    adapters = dk.attach(model, r=3, target_modules=["c_fc"])
    nn.init.normal_(adapters.layers["transformer.h.0.mlp.c_fc"].lora_B)
    ids = torch.randint(11, (12, 8))
    data = [{"input_ids": row, "labels": row} for row in ids]
    advice = dk.advise(model, adapters, data, shift=shift, resamples=3, progress=False)
    swept = dk.sweep(model, adapters, data, progress=False)
    assert np.allclose(advice.ranks["value"], swept["value"]) == same


def test_each_rank_has_its_price_and_the_bytes_are_those_of_the_exported_file(tmp_path):
    model = toy()
    adapters = adapted(model)
    table = dk.advise(model, adapters, frame=frame_of([0.1, 0.2, 0.3, 0.4])).ranks.set_index("rank")
    assert table["parameters"].to_dict() == {b: b * SIZES for b in range(1, R + 1)}
    for b in range(1, R + 1):
        adapters.export_peft(tmp_path / str(b), b)
        tensors = load_file(tmp_path / str(b) / "adapter_model.safetensors")
        stored = sum(tensor.nbytes for name, tensor in tensors.items() if ".lora_" in name)
        assert (table.loc[b, "bytes_float32"], table.loc[b, "bytes_float16"]) == (stored, stored / 2)
    assert table["milliseconds"].isna().all()


def test_a_forward_pass_is_timed_if_a_batch_is_given():
    advice = advice_of([0.5, 0.9, 0.9, 0.9], batch={"x": torch.randn(5, 6)})
    assert (advice.ranks["milliseconds"] > 0).all()
    taken = advice.ranks.set_index("rank")["milliseconds"]
    assert f"takes {taken[2]:.3g} ms, at rank 4 {taken[4]:.3g} ms." in str(advice)


def test_a_fused_projection_is_served_at_the_rank_of_all_its_parts():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=12, n_layer=1, n_head=2))
    adapters = dk.attach(model, r=10, target_modules="attention")
    table = dk.advise(model, adapters, frame=frame_of(list(np.linspace(0, 1, 10)))).ranks.set_index("rank")
    assert table["exported_rank"].tolist() == [2 * b for b in range(1, 11)]
    assert table["vllm_max_lora_rank"].tolist() == [8] * 4 + [16] * 4 + [32] * 2
    assert table.loc[1, "bytes_float32"] > 4 * table.loc[1, "parameters"]


def test_engines_are_told_what_they_need():
    assert "default, max_lora_rank=16, is enough, and 8 will do" in serving(8)
    assert "default, max_lora_rank=16, is enough." in serving(16)
    assert "max_lora_rank=320 or more: its default, 16, is too small" in serving(257)
    assert "vLLM does not serve rank 513: its largest max_lora_rank is 512" in serving(513)
    assert "--max-lora-rank 513 or more" in serving(513)


def test_the_sentences_have_the_numbers():
    advice = advice_of([0.6, 0.86, 0.89, 0.9], [0.6, 0.86, 0.89, 0.9], tolerance=0.05)
    text = str(advice)
    assert "Take rank 2 of 4: its accuracy is 0.86. The best is 0.9 at rank 4, and your tolerance is 0.05." in text
    assert "Of 2 seeds 100% choose rank 2." in text
    assert f"It has {2 * SIZES} parameters (0.1 kB in float16, 0.3 kB in float32): 50% of rank 4." in text
    assert "One LoRA trained for rank 2 alone would probably be better, by about 2.6 to 2.9 points" in text
    assert "rank 2 of r = 8, on turned digits (accuracy) and acceptability (Matthews), five seeds each" in text
    assert "If you ship rank 2 alone and can train again, train one LoRA of that rank." in text
    assert text.splitlines()[-1] == f"For PEFT: {advice.peft_code()}"


def test_where_dylora_is_not_worth_it_that_is_said():
    assert "The curve is flat: the lowest rank is good enough" in str(advice_of([0.9, 0.9, 0.89, 0.9]))
    at_the_top = str(advice_of([0.5, 0.6, 0.7, 0.8]))
    assert "Take rank 4 of 4: its accuracy, 0.8, is the best." in at_the_top
    assert "a larger r may be better still" in at_the_top and "% of rank" not in at_the_top


def test_a_doubtful_choice_is_called_doubtful():
    early, late = [0.5, 0.9, 0.9, 0.9], [0.5, 0.5, 0.5, 0.9]
    text = str(advice_of(early, early, late, late, late, tolerance=0.24))
    assert "40% choose rank 2" in text and "far from sure" in text


def test_what_was_measured_closest_is_told():
    assert measured_ahead(4, 4)[:2] == (4, 8)
    assert measured_ahead(64, 64)[:2] == (32, 32)
    assert "be about as good, or better by up to 1.0 points" in would_one_lora_do_better(4, 8)


@pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
def test_the_config_opens_in_plain_peft_with_the_same_ranks_and_scales(scaling):
    from peft import LoraConfig, get_peft_model

    model = toy()
    adapters = adapted(model, scaling=scaling, rank_pattern={"down": 2}, alpha_pattern={"down": 5.0})
    advice = dk.advise(model, adapters, frame=frame_of([0.5, 0.6, 0.9, 0.9]))
    assert advice.rank == 3
    plain = get_peft_model(toy(), LoraConfig(**advice.peft_config()))
    for name, layer in adapters.layers.items():
        theirs = plain.base_model.model.get_submodule(name)
        assert theirs.r["default"] == min(3, layer.r)
        assert theirs.scaling["default"] == pytest.approx(layer.scale(min(3, layer.r)))
    assert plain.base_model.model.classifier.modules_to_save["default"].weight.requires_grad
    assert eval(advice.peft_code(), {"LoraConfig": LoraConfig}).r == 3


def test_the_config_of_a_paste_is_short_and_names_the_alpha_as_a_whole_number():
    code = advice_of([0.5, 0.6, 0.9, 0.9]).peft_code()
    assert code == "LoraConfig(r=3, lora_alpha=8, target_modules=['down', 'up'], modules_to_save=['classifier'])"


def test_a_layer_whose_end_another_module_shares_is_named_whole():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = nn.ModuleDict({"one": nn.ModuleDict({"up": nn.Linear(6, 10)}), "up": nn.Linear(5, 7)})
    adapters = dk.attach(model, r=4, target_modules=r"one\.up")
    config = dk.advise(model, adapters, frame=frame_of([0.5, 0.9, 0.9, 0.9])).peft_config()
    adapters.detach()
    plain = get_peft_model(model, LoraConfig(**config))
    assert [name for name, module in plain.named_modules() if hasattr(module, "lora_A")] == ["base_model.model.one.up"]


def test_adapters_of_peft_get_advice_too():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(toy(), LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    adapters = dk.nest_peft(model)
    advice = dk.advise(model, adapters, examples(30), resamples=5, progress=False)
    assert advice.ranks["parameters"].tolist() == [b * SIZES for b in range(1, R + 1)]
    assert advice.peft_config()["lora_alpha"] == 8 and advice.peft_config()["target_modules"] == ["down", "up"]


def test_advice_can_be_assigned_as_a_rank():
    model = toy()
    adapters = adapted(model)
    adapters.rank = dk.advise(model, adapters, frame=frame_of([0.5, 0.9, 0.9, 0.9]))
    assert adapters.rank == 2


def test_a_page_shows_sentences_and_table_and_escapes_names():
    page = advice_of([0.5, 0.9, 0.9, 0.9], metric="<b>score</b>")._repr_html_()
    assert "<b>" not in page and page.count("&lt;b&gt;score&lt;/b&gt;") >= 2
    assert "<li>Take rank 2 of 4" in page and "<table" in page and "LoraConfig(r=2" in page
    assert "milliseconds" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either data or the frame of a sweep: got neither"),
        ({"data": examples(3), "frame": frame_of([0.1, 0.2])}, "got both"),
        ({"frame": frame_of([0.1, 0.2]), "tolerance": -0.1}, "tolerance must be 0 or more: got -0.1"),
        ({"frame": frame_of([0.1, 0.2]), "tolerance": float("nan")}, "tolerance must be 0 or more: got nan"),
        ({"data": examples(3), "resamples": 0}, "resamples must be 1 or more: got 0"),
        ({"frame": frame_of([0.1] * 5)}, "the frame has rank 5, and these adapters have 1 to 4"),
        ({"frame": frame_of([0.1])}, "there is only rank 1, so nothing to choose"),
        ({"data": examples(3), "ranks": [3]}, "there is only rank 3"),
        ({"data": examples(3), "ranks": []}, "there is no rank"),
        ({"frame": frame_of([0.1, 0.2]), "ranks": [1, 4]}, "the frame has no rank 4: sweep it"),
        ({"frame": frame_of([0.1, 0.2]), "metric": "f1"}, "no rows of the metric 'f1', only of accuracy: name that"),
        ({"frame": frame_of([0.1, 0.2]).drop(columns="value")}, "the frame has no column 'value'"),
        ({"frame": frame_of([float("nan")] * 2)}, "no rank has a value"),
        ({"data": []}, "the data is empty"),
        ({"data": examples(3), "metric": "f2"}, "unknown metric 'f2'"),
        ({"data": examples(3), "ranks": [1, 5]}, "5"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_leaves_the_rank(options, message):
    model = toy()
    adapters = adapted(model)
    adapters.rank = 3
    with pytest.raises(ValueError, match=message):
        dk.advise(model, adapters, progress=False, **options)
    assert adapters.rank == 3


def test_merged_adapters_and_other_models_and_handles_are_refused():
    model = toy()
    adapters = adapted(model)
    with pytest.raises(ValueError, match="another model"):
        dk.advise(Toy(), adapters, frame=frame_of([0.1, 0.2]))
    adapters.merge(rank=2)
    with pytest.raises(ValueError, match=r"call unmerge\(\) before asking for advice"):
        dk.advise(model, adapters, frame=frame_of([0.1, 0.2]))
    code = Autoencoder(12, 4).code
    with pytest.raises(TypeError, match="advise needs what attach, load or nest_peft returned: got a Code"):
        dk.advise(code.model, code, frame=frame_of([0.1, 0.2]))
