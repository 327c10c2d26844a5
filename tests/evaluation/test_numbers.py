"""What a sweep reports, against a computation by hand or transformers' own loss."""

import gc
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from architectures import BUILDERS, SMALL, SPECIAL, WORDS, build
from datasets import Dataset
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor, nn
from toys import R, adapted, examples, toy

import dylora_kit as dk
from dylora_kit.evaluation import metrics, select_rank
from dylora_kit.training.next_token import named_causal

CAUSAL = ["gpt2", "neox", "phi3", "opt", "llama"]


def with_adapters(model: Any, r: int = 2) -> dk.Adapters:
    """Adapters on the attention of a transformer, lora_B filled so that the ranks differ."""
    adapters = dk.attach(model, r=r, target_modules="attention", modules_to_save=[])
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in adapters.layers.values():
            for name, parameter in layer.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapters


def made(config: str, model: str, **options: Any) -> Any:
    BUILDERS[model] = lambda: getattr(transformers, model)(getattr(transformers, config)(**SMALL, **options))
    return build(model)


def texts(n: int = 11, seed: int = 0, classes: int = WORDS) -> list[dict[str, list[int]]]:
    """Texts of 3 to 9 tokens, with one label per token, about a third of which do not count."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        length = int(rng.integers(3, 10))
        labels = rng.integers(0, classes, length)
        labels[rng.random(length) < 0.35] = -100
        labels[1] = 1
        rows.append({"input_ids": rng.integers(3, WORDS, length).tolist(), "labels": labels.tolist()})
    return rows


def padded(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name: str, fill: int) -> Tensor:
        return torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows])

    ids = column("input_ids", 0)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": column("labels", -100)}


def token_pairs(model: Any, adapters: dk.Adapters, rank: int, rows: list[Any], ahead: int) -> tuple[Tensor, Tensor]:
    """Logits and labels of the tokens that count, text by text without padding."""
    logits, labels = [], []
    for row in rows:
        batch = padded([row])
        with adapters.at(rank), torch.no_grad():
            out = model(**batch).logits[0]
        for token, label in enumerate(row["labels"]):
            if label != -100 and token - ahead >= 0:
                logits.append(out[token - ahead])
                labels.append(label)
    return torch.stack(logits), torch.tensor(labels)


def by_metric(frame: Any) -> dict[tuple[str, int], float]:
    return {(row.metric, row.rank): row.value for row in frame.itertuples()}


# Tokens with labels


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_labels_of_minus_100_count_in_no_metric_of_tokens(name: str, batch_size: int) -> None:
    kind = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}[name]
    options = {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 48} if name == "distilbert" else SMALL
    BUILDERS[f"{name}-token"] = lambda: getattr(transformers, f"{kind}ForTokenClassification")(
        getattr(transformers, f"{kind}Config")(**options | {"vocab_size": WORDS}, max_position_embeddings=40)
    )
    model = build(f"{name}-token")
    adapters, rows = with_adapters(model), texts(classes=2)
    names = ("accuracy", "f1", "matthews", "loss", "perplexity")
    frame = dk.sweep(model, adapters, rows, metric=names, collate=padded, batch_size=batch_size, progress=False)
    values = by_metric(frame)
    for rank in (1, 2):
        logits, labels = token_pairs(model, adapters, rank, rows, ahead=0)
        predicted = logits.argmax(-1)
        loss = F.cross_entropy(logits, labels).item()
        assert values["accuracy", rank] == (predicted == labels).double().mean().item()
        assert values["f1", rank] == pytest.approx(f1_score(labels, predicted), abs=1e-12)
        assert values["matthews", rank] == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-12)
        assert values["loss", rank] == pytest.approx(loss, rel=1e-5)
        assert values["perplexity", rank] == pytest.approx(math.exp(loss), rel=1e-5)


@pytest.mark.parametrize(
    ("config", "name"), [("BertConfig", "BertForMaskedLM"), ("RobertaConfig", "RobertaForMaskedLM")]
)
def test_masked_words_are_not_shifted(config: str, name: str) -> None:
    model = made(config, name, max_position_embeddings=40)
    adapters, rows = with_adapters(model), texts()
    for row in rows:  # labels that the model finds at rank 1
        with adapters.at(1), torch.no_grad():
            best = model(**padded([row])).logits[0].argmax(-1).tolist()
        row["labels"] = [answer if label != -100 else -100 for answer, label in zip(best, row["labels"], strict=True)]
    frame = dk.sweep(model, adapters, rows, metric=("accuracy", "loss"), collate=padded, batch_size=3, progress=False)
    values = by_metric(frame)
    assert values["accuracy", 1] == 1
    logits, labels = token_pairs(model, adapters, 2, rows, ahead=0)
    assert values["accuracy", 2] == (logits.argmax(-1) == labels).double().mean().item() < 1
    assert values["loss", 2] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


# Causal models, and those from sequence to sequence


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_causal_model_is_compared_with_the_next_token(name: str, batch_size: int) -> None:
    model = build(name)
    adapters, rows = with_adapters(model), texts(seed=1)
    for row in rows[::2]:  # half of them are what rank 2 says
        with adapters.at(2), torch.no_grad():
            row["labels"][1:] = model(**padded([row])).logits[0].argmax(-1).tolist()[:-1]
    names = ("accuracy", "loss", "perplexity")
    frame = dk.sweep(model, adapters, rows, metric=names, collate=padded, batch_size=batch_size, progress=False)
    values = by_metric(frame)
    for rank in (1, 2):
        logits, labels = token_pairs(model, adapters, rank, rows, ahead=1)
        assert values["accuracy", rank] == pytest.approx(
            (logits.argmax(-1) == labels).double().mean().item(), abs=1e-12
        )
        assert values["loss", rank] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
        with adapters.at(rank), torch.no_grad():
            assert values["loss", rank] == pytest.approx(model(**padded(rows)).loss.item(), rel=1e-4)
        assert values["perplexity", rank] == pytest.approx(math.exp(values["loss", rank]))
    assert values["accuracy", 2] > 0.4


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_model_from_sequence_to_sequence_is_not_shifted(name: str) -> None:
    model = build(name)
    adapters, rows = with_adapters(model), texts(seed=2)
    frame = dk.sweep(model, adapters, rows, metric=("accuracy", "loss"), collate=padded, batch_size=3, progress=False)
    values = by_metric(frame)
    with adapters.at(1), torch.no_grad():
        whole = model(**padded(rows))
    labels = padded(rows)["labels"]
    right = whole.logits.argmax(-1) == labels
    assert values["accuracy", 1] == pytest.approx(right[labels != -100].double().mean().item(), abs=1e-12)
    assert values["loss", 1] == pytest.approx(whole.loss.item(), rel=1e-4)


@pytest.mark.parametrize("silent", [0, 2], ids=["labels at once", "no labels in the first batch"])
def test_the_models_own_loss_decides_whether_it_is_shifted_and_not_its_name(silent: int) -> None:
    options = {"d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    BUILDERS["bart-decoder"] = lambda: transformers.BartForCausalLM(
        transformers.BartConfig(**options, vocab_size=WORDS, max_position_embeddings=40, **SPECIAL)
    )
    model = build("bart-decoder")  # transformers leaves its labels where they stand
    adapters, rows = with_adapters(model), texts(seed=3)
    first = [{"input_ids": [5, 6], "labels": [-100, -100]}] * silent  # the shortest come first
    values = by_metric(dk.sweep(model, adapters, first + rows, collate=padded, batch_size=2, progress=False))
    logits, labels = token_pairs(model, adapters, 1, rows, ahead=0)
    assert values["accuracy", 1] == pytest.approx((logits.argmax(-1) == labels).double().mean().item(), abs=1e-12)


class Copier(nn.Module):
    """Says at each token the token itself; its loss has a term of its own, so that nothing can be read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(WORDS, WORDS)
        nn.init.zeros_(self.down.bias)
        with torch.no_grad():
            self.down.weight.copy_(torch.eye(WORDS))

    def forward(self, input_ids: Tensor, labels: Tensor) -> SimpleNamespace:
        logits = self.down(F.one_hot(input_ids, WORDS).float())
        return SimpleNamespace(logits=logits, loss=logits.sum() * 0 + 77.0)


class CopierForCausalLM(Copier):
    pass


@pytest.mark.parametrize("kind", [Copier, CopierForCausalLM])
@pytest.mark.parametrize("shift", [None, False, True])
def test_where_the_loss_tells_nothing_the_name_decides_and_the_user_above_all(kind: type[Copier], shift: Any) -> None:
    model = kind()
    adapters = dk.attach(model, r=2, target_modules=["down"])
    rows = [
        {"input_ids": [3, 4, 5, 6], "labels": [-100, 4, 5, 6]},
        {"input_ids": [7, 8, 9, 9], "labels": [7, 8, 9, -100]},
    ]
    frame = dk.sweep(model, adapters, rows, metric=("accuracy", "loss"), ranks=[1], shift=shift, progress=False)
    shifts = kind is CopierForCausalLM if shift is None else shift
    assert by_metric(frame) == {("accuracy", 1): 0.0 if shifts else 1.0, ("loss", 1): 77.0}
    assert named_causal(nn.parallel.DataParallel(model)) == (kind is CopierForCausalLM)


def test_outputs_that_are_not_per_token_cannot_be_shifted() -> None:
    model = toy()
    adapters = adapted(model)
    with pytest.raises(ValueError, match=r"shift=True needs logits \(n, tokens, vocabulary\) and labels \(n, tokens\)"):
        dk.sweep(model, adapters, examples(), shift=True, progress=False)


# Whatever the batch size; as much memory as one batch takes


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_a_loss_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    model = toy(dropout=0.0)
    adapters = adapted(model)
    data = examples(50)
    for index in (0, 7, 8, 30):
        data[index]["labels"] = torch.tensor(-100)
    frame = dk.sweep(model, adapters, data, metric=("loss", "accuracy"), batch_size=batch_size, progress=False)
    x, labels = torch.stack([row["x"] for row in data]), torch.stack([row["labels"] for row in data])
    model.eval()
    for rank in range(1, R + 1):
        with adapters.at(rank), torch.no_grad():
            out = model(x, labels)
        assert by_metric(frame)["loss", rank] == pytest.approx(out.loss.item(), rel=1e-5)
        right = (out.logits.argmax(-1) == labels)[labels != -100]
        assert by_metric(frame)["accuracy", rank] == pytest.approx(right.double().mean().item(), abs=1e-12)


@pytest.mark.parametrize("name", list(metrics.METRICS))
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_metric_added_up_batch_by_batch_is_that_of_all_outputs(name: str, batch_size: int) -> None:
    width = {"pearson": 1, "error": 5}.get(name, 2)
    model = toy(dropout=0.0)
    model.classifier = nn.Linear(7, width)
    adapters = adapted(model)
    generator = torch.Generator().manual_seed(3)
    answers: dict[str, Callable[[], Tensor]] = {
        "pearson": lambda: torch.randn((), generator=generator),
        "error": lambda: torch.randn(5, generator=generator),
    }
    data = [
        row | {"labels": answers.get(name, lambda: torch.randint(2, (), generator=generator))()} for row in examples(40)
    ]
    forward = lambda model, batch: model(batch["x"]).logits  # noqa: E731
    frame = dk.sweep(model, adapters, data, metric=name, forward=forward, batch_size=batch_size, progress=False)
    outputs, labels = dk.predict(model, adapters, data, ranks=range(1, R + 1), forward=forward, batch_size=batch_size)
    reference = {
        "accuracy": lambda out: (out.argmax(-1) == labels).mean(),
        "f1": lambda out: f1_score(labels, out.argmax(-1), zero_division=0),
        "matthews": lambda out: matthews_corrcoef(labels, out.argmax(-1)),
        "pearson": lambda out: pearsonr(out[:, 0], labels).statistic,
        "error": lambda out: ((out - labels).astype(float) ** 2).sum() / (labels.astype(float) ** 2).sum(),
    }[name]
    for rank, out in outputs.items():
        value = by_metric(frame)[name, rank]
        assert value == pytest.approx(reference(out), abs=1e-7 if name == "error" else 1e-12)
        assert value == pytest.approx(metrics.METRICS[name](out, labels), abs=1e-12)


def test_a_sweep_by_name_keeps_the_logits_of_one_batch() -> None:
    """Of a model with a wide vocabulary, whose logits are by far the largest tensors."""
    config = transformers.LlamaConfig(**SMALL | {"vocab_size": 30_000}, **SPECIAL, num_key_value_heads=2)
    model = transformers.LlamaForCausalLM(config)
    adapters = dk.attach(model, r=4, target_modules=["q_proj"])
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    data = [{"input_ids": [3 + n, 4, 5, 6, 7, 8, 9, 10], "labels": [3, 4, 5, 6, 7, 8, 9, 10]} for n in range(16)]
    alive: list[int] = []

    def measure(*_: Any) -> None:
        storages = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in gc.get_objects()
            if type(one) is Tensor and one.layout is torch.strided and one.dim() and one.shape[-1] == 30_000
        }
        alive.append(sum(size for pointer, size in storages.items() if pointer not in own))

    model.model.register_forward_pre_hook(measure)
    names = ("accuracy", "matthews", "loss", "perplexity")
    dk.sweep(model, adapters, data, metric=names, batch_size=2, progress=False)
    assert len(alive) == 8 * 4
    assert max(alive) - alive[0] < 2 * 8 * 30_000 * 4  # at the end all would be 32 times that


# Ragged batches


def test_batches_padded_to_different_lengths_are_padded_to_the_longest() -> None:
    model = build("llama")
    adapters, rows = with_adapters(model), texts(seed=4)
    outputs, labels = dk.predict(model, adapters, rows, ranks=[1, 2], collate=padded, batch_size=2)
    longest = max(len(row["input_ids"]) for row in rows)
    assert outputs[2].shape == (11, longest, WORDS)
    assert (labels == padded(rows)["labels"].numpy()).all()
    for rank, logits in outputs.items():
        for row, answer in zip(rows, logits, strict=True):
            n = len(row["input_ids"])
            with adapters.at(rank), torch.no_grad():
                alone = model(**padded([row])).logits[0].numpy()
            np.testing.assert_allclose(answer[:n], alone, rtol=1e-3, atol=1e-4)
    seen = []
    dk.sweep(model, adapters, rows, metric=lambda out, given: seen.append((out.shape, given.shape)) or 0.5, ranks=[1],
             collate=padded, batch_size=2, progress=False)  # fmt: skip
    assert seen == [((11, longest, WORDS), (11, longest))]
    frame = select_rank.bootstrap(outputs, labels, shift=True, resamples=300)
    swept = by_metric(dk.sweep(model, adapters, rows, collate=padded, progress=False))
    assert frame.groupby("rank")["value"].mean()[1] == pytest.approx(swept["accuracy", 1], abs=0.03)


def test_ragged_labels_that_are_no_whole_numbers_are_filled_with_nan() -> None:
    model = toy()
    adapters = adapted(model)
    rows = [{"n": n, "x": torch.ones(6), "labels": [0.5] * n} for n in (3, 1)]

    def collate(some: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.stack([torch.as_tensor(row[name]) for row in some]) for name in ("x", "labels")}

    _, labels = dk.predict(model, adapters, rows, ranks=[1], collate=collate, batch_size=1,
                           forward=lambda model, batch: model(batch["x"]).logits)  # fmt: skip
    np.testing.assert_array_equal(labels, [[0.5, 0.5, 0.5], [0.5, math.nan, math.nan]])


# Models whose outputs are of another kind


class Plain(nn.Module):
    """Gives what `as_what` makes of the logits."""

    def __init__(self, as_what: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.down, self.as_what = nn.Linear(6, 3), as_what

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        return self.as_what(self.down(x))


def test_a_plain_tensor_is_taken_for_the_outputs() -> None:
    model = Plain(lambda logits: logits)
    adapters = dk.attach(model, r=2, target_modules=["down"])
    outputs, labels = dk.predict(model, adapters, examples(9), ranks=[1])
    frame = dk.sweep(model, adapters, examples(9), ranks=[1], progress=False)
    assert frame["value"].tolist() == [(outputs[1].argmax(1) == labels).mean()]


@pytest.mark.parametrize(
    ("as_what", "message"),
    [
        (lambda logits: (logits, None), r"no logits \(it is a tuple\): pass forward=…"),
        (lambda logits: {"scores": logits}, r"no logits \(it is a dict\): pass forward=…"),
        (lambda logits: logits.mean(), r"no logits \(it is a Tensor\): pass forward=…"),
        (lambda logits: logits.reshape(-1), "gives 27 outputs for a batch of 9 examples: pass forward=…"),
    ],
    ids=["tuple", "dict", "number", "another length"],
)
def test_other_outputs_are_refused_and_forward_takes_them(as_what: Any, message: str) -> None:
    model = Plain(as_what)
    adapters = dk.attach(model, r=2, target_modules=["down"])
    for evaluate in (
        lambda **how: dk.sweep(model, adapters, examples(9), progress=False, **how),
        lambda **how: dk.predict(model, adapters, examples(9), ranks=[1], **how),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate()
        evaluate(forward=lambda model, batch: model.down(batch["x"]))


def test_a_model_without_labels_among_its_arguments_names_forward() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    adapters = dk.attach(model, r=2, target_modules=["0"])
    data = [{"input": row["x"], "labels": row["labels"]} for row in examples()]
    with pytest.raises(ValueError, match=r"the model takes no 'labels': remove that column, or pass forward=…"):
        dk.sweep(model, adapters, data, progress=False)
    frame = dk.sweep(model, adapters, data, forward=lambda model, batch: model(batch.pop("input")), progress=False)
    assert frame["value"].notna().all()
    with pytest.raises(ValueError, match=r"no loss \(it is a Tensor\): return logits and loss from forward=…"):
        dk.sweep(model, adapters, data, metric="loss", forward=lambda m, batch: m(batch["input"]), progress=False)


def test_a_tuple_of_transformers_is_refused_in_a_sentence() -> None:
    model = build("bert")
    model.config.return_dict = False
    adapters = with_adapters(model)
    data = [{"input_ids": [5, 6, 7], "labels": 1}] * 4
    for metric in ("accuracy", "loss"):
        with pytest.raises(ValueError, match="forward=…"):
            dk.sweep(model, adapters, data, metric=metric, progress=False)


def test_a_loss_without_logits_is_enough_for_the_loss() -> None:
    """Question answering names its labels otherwise, and has two kinds of logits."""
    model = made("BertConfig", "BertForQuestionAnswering")
    adapters = with_adapters(model)
    data = [{"input_ids": [5, 6, 7, n], "start_positions": n % 3, "end_positions": 3} for n in range(4, 11)]
    values = [
        dk.sweep(model, adapters, data, metric="loss", ranks=[1], batch_size=size, progress=False)["value"][0]
        for size in (2, 7)
    ]
    with adapters.at(1), torch.no_grad():
        whole = model(**{name: torch.tensor([row[name] for row in data]) for name in data[0]})
    assert values == pytest.approx([whole.loss.item()] * 2, rel=1e-5)


# Nothing that counts


def test_where_nothing_counts_there_is_no_value() -> None:
    model = build("gpt2")
    adapters = with_adapters(model)
    none = [{"input_ids": [5, 6, 7], "labels": [-100] * 3}] * 4
    names = ("accuracy", "matthews", "loss", "perplexity")
    assert dk.sweep(model, adapters, none, metric=names, progress=False)["value"].isna().all()
    some = [*none, {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}]
    alone = dk.sweep(model, adapters, some[-1:], metric=names, progress=False)
    frame = dk.sweep(model, adapters, some, metric=names, batch_size=2, progress=False)
    assert frame["value"].tolist() == pytest.approx(alone["value"].tolist(), rel=1e-5)
    for name in metrics.METRICS:
        if name != "error":
            assert math.isnan(metrics.METRICS[name](np.zeros((2, 1 + (name != "pearson"))), np.array([-100, -100])))


def test_outputs_that_are_not_finite_matter_where_a_label_counts() -> None:
    model = Plain(lambda logits: torch.where(torch.arange(len(logits))[:, None] == 1, math.nan, logits))
    adapters = dk.attach(model, r=2, target_modules=["down"])
    data = examples(4)
    assert dk.sweep(model, adapters, data, progress=False)["value"].isna().all()
    data[1]["labels"] = torch.tensor(-100)
    assert dk.sweep(model, adapters, data, progress=False)["value"].notna().all()


def test_a_rank_that_says_nothing_finite_is_not_chosen_by_its_loss() -> None:
    model = toy(dropout=0.0)
    adapters = adapted(model)
    with torch.no_grad():
        adapters.layers["down"].lora_B[:, 3] = math.nan
        model.classifier.weight.mul_(1e4)  # losses so large that their exponential is infinite
    frame = dk.sweep(model, adapters, examples(), metric=("loss", "perplexity"), progress=False)
    losses, perplexities = (frame[frame["metric"] == name].reset_index() for name in ("loss", "perplexity"))
    assert losses["value"].isna().tolist() == perplexities["value"].isna().tolist() == [False] * 3 + [True]
    assert dk.smallest_rank(losses, tolerance=0).rank == losses["value"].idxmin() + 1
    assert np.isinf(perplexities["value"][:3]).all()
    with pytest.raises(ValueError, match="no rank has a value"):
        dk.smallest_rank(perplexities)
    perplexities.loc[1, "value"] = 9e300
    assert dk.smallest_rank(perplexities).rank == 2


@pytest.mark.parametrize("metric", ["accuracy", "loss", "f1"])
def test_data_without_labels_are_refused_in_a_sentence(metric: str) -> None:
    model = build("llama")
    adapters = with_adapters(model)
    data = [{"input_ids": [5, 6, 7], "target": 1}] * 4
    with pytest.raises(ValueError, match=r"'target'.*call the column with the answers 'labels'"):
        dk.sweep(model, adapters, data, metric=metric, progress=False)


def test_f1_of_more_than_two_classes_is_refused_in_a_sentence() -> None:
    model = toy()
    adapters = adapted(model)
    with pytest.raises(ValueError, match="f1 is that of class 1 against class 0, but there are more classes"):
        dk.sweep(model, adapters, examples(40), metric="f1", progress=False)


# Data as they come


@pytest.mark.parametrize("answers", ["labels", "label", "label_ids"])
def test_a_datasets_dataset_is_swept_as_it_comes(answers: str) -> None:
    model = build("bert")
    adapters = with_adapters(model)
    ids = np.random.default_rng(0).integers(3, WORDS, (12, 6))
    plain = Dataset.from_dict({"input_ids": ids.tolist(), answers: [0, 1] * 6})
    tensors = [{"input_ids": torch.tensor(row), "labels": torch.tensor(n % 2)} for n, row in enumerate(ids)]
    names = ("accuracy", "loss", "matthews")
    expected = dk.sweep(model, adapters, tensors, metric=names, progress=False)["value"].tolist()
    arrays = [{"input_ids": row, answers: np.int64(n % 2)} for n, row in enumerate(ids)]
    for data in (plain, plain.with_format("torch"), plain.with_format("numpy"), list(plain), arrays):
        assert dk.sweep(model, adapters, data, metric=names, progress=False)["value"].tolist() == expected
    _, labels = dk.predict(model, adapters, plain, ranks=[1])
    assert labels.tolist() == [0, 1] * 6
    assert len(select_rank.latency(model, adapters, plain[:4], repeats=1)) == 2
    assert len(select_rank.latency(model, adapters, list(plain)[:4], repeats=1)) == 2
    chosen = [dk.ranks_per_layer(model, adapters, data, budget=10**6) for data in (plain, tensors)]
    assert chosen[0].ranks == chosen[1].ranks and chosen[0].loss == chosen[1].loss


def test_a_text_column_is_named_everywhere() -> None:
    model = build("bert")
    adapters = with_adapters(model)
    data = Dataset.from_dict({"text": ["a", "b"], "input_ids": [[5, 6], [7, 8]], "label": [0, 1]})
    for evaluate in (
        lambda: dk.sweep(model, adapters, data, progress=False),
        lambda: dk.sweep(model, adapters, data, metric="loss", progress=False),
        lambda: dk.predict(model, adapters, data, ranks=[1]),
        lambda: dk.ranks_per_layer(model, adapters, data, budget=10**6),
        lambda: select_rank.latency(model, adapters, data[:2]),
    ):
        with pytest.raises(ValueError, match=r"the column 'text' holds text, which a model cannot take: tokenise"):
            evaluate()


def test_the_loss_of_ranks_per_layer_is_that_of_the_sweep_over_all_tokens() -> None:
    model = build("llama")
    adapters, rows = with_adapters(model), texts(seed=6)
    chosen = dk.ranks_per_layer(model, adapters, rows, budget=10**6, collate=padded, standard_errors=1e6)
    swept = by_metric(dk.sweep(model, adapters, rows, metric="loss", ranks=[2], collate=padded, progress=False))
    assert chosen.loss == pytest.approx(swept["loss", 2], rel=1e-5)
    with pytest.raises(ValueError, match="no label of the data counts"):
        dk.ranks_per_layer(model, adapters, [{"input_ids": [5, 6], "labels": [-100, -100]}] * 3, budget=10**6)
