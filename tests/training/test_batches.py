"""From a dataset to what a model is called with: what is taken as it comes, and what is refused in one sentence."""

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from pandas import DataFrame
from torch import Tensor, nn
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.training.batches import as_batch, stacked
from dylora_kit.training.objectives import repeated, size_of


def train(data: Any, model: nn.Module | None = None, **settings: Any) -> tuple[nn.Module, list[float]]:
    model = toy() if model is None else model
    adapters = adapted(model)
    settings = {"sampler": dk.RankSampler(dk.Uniform(1, R), seed=0), "steps": 5, "progress": False} | settings
    return model, dk.train(model, adapters, data, batch_size=4, **settings)["loss"].tolist()


def test_rows_of_lists_arrays_or_tensors_train_alike() -> None:
    tensors = examples()
    lists = [{"x": row["x"].tolist(), "labels": int(row["labels"])} for row in tensors]
    arrays = [{"x": row["x"].numpy(), "label": row["labels"].numpy()} for row in tensors]
    expected, losses = train(tensors)
    for data in (
        lists,
        arrays,
        Dataset.from_list(lists),
        Dataset.from_list(lists).rename_column("labels", "label_ids"),
    ):
        model, others = train(data)
        assert others == losses
        assert_same(state_of(model), state_of(expected))


def test_columns_are_stacked_and_texts_stay_lists() -> None:
    batch = stacked(
        [
            {"ids": [1, 2], "pixels": [[0.5], [1.0]], "pairs": [torch.ones(2)] * 3, "score": 0.5, "text": "a"},
            {"ids": [3, 4], "pixels": [[0.0], [2.0]], "pairs": [torch.zeros(2)] * 3, "score": 1.5, "text": "b"},
        ]
    )
    assert batch["ids"].tolist() == [[1, 2], [3, 4]]
    assert batch["pixels"].shape == (2, 2, 1) and batch["pixels"].dtype == torch.float32
    assert batch["pairs"].shape == (2, 3, 2)
    assert batch["score"].tolist() == [0.5, 1.5]
    assert batch["text"] == ["a", "b"]
    assert as_batch({"ids": [[1, 2], [3, 4]], "mask": torch.ones(2)})["ids"].shape == (2, 2)
    assert size_of({"text": ["a", "b"], "n": torch.tensor(3)}) == 2
    assert repeated({"x": torch.tensor([1, 2]), "text": ["a", "b"]}, torch.tensor([1, 1, 2, 2]))["text"] == [*"abab"]


class Words(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows that also say what they are."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Any]:
        return examples()[index] | {"name": f"row {index}"}


def test_a_text_column_is_for_a_loss_of_ones_own_and_not_for_a_model() -> None:
    with pytest.raises(ValueError, match="the column 'name' holds text, which a model cannot take"):
        train(Words())
    names: list[str] = []

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        names.extend(batch["name"])
        return model(batch["x"], batch["labels"]).loss

    assert train(Words(), loss=loss)[1] == train(examples())[1]
    assert len(names) == 20 and names[0].startswith("row ")


class Endless(torch.utils.data.IterableDataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        return iter(examples(4))


LISTS = [{"x": row["x"].tolist(), "labels": int(row["labels"])} for row in examples(24)]
REFUSED = {
    "torch's iterable": (lambda: Endless(), r"no length or no order \(Endless\): pass a map-style dataset"),
    "datasets' iterable": (lambda: Dataset.from_list(LISTS).to_iterable_dataset(), "no length or no order"),
    "generator": (lambda: iter(LISTS), "no length or no order"),
    "loader": (lambda: torch.utils.data.DataLoader(LISTS), "a DataLoader makes batches of its own: pass its dataset"),
    "splits": (lambda: DatasetDict(train=Dataset.from_list(LISTS)), "pass one of its splits, such as data"),
    "columns": (lambda: {"x": torch.ones(4, 6), "labels": torch.ones(4)}, "a list with a dict for each example"),
    "frame": (lambda: DataFrame({"labels": [0, 1]}), r"pass data.to_dict\('records'\)"),
    "tuples": (lambda: torch.utils.data.TensorDataset(torch.ones(8, 6), torch.ones(8)), "an example is a tuple"),
    "ragged": (lambda: [row | {"x": [0.5] * (5 + (n % 3 > 0))} for n, row in enumerate(LISTS)],
               r"the column 'x' has examples of different lengths \(5 and 6\): pass collate=…"),
    "ragged inside": (lambda: [row | {"x": [[1], [1, 2]]} for row in LISTS], "the column 'x' holds lists that are no"),
    "missing": (lambda: [{"x": row["x"]} if n % 3 else row for n, row in enumerate(LISTS)],
                "the column 'labels' is missing in some examples"),
    "nothing": (lambda: [row | {"x": None} for row in LISTS], "the column 'x' holds None"),
    "words": (lambda: [row | {"words": ["a", "b"]} for row in LISTS], "the column 'words' holds text"),
    "text of numpy": (lambda: [row | {"words": np.array(["a"])} for row in LISTS], "the column 'words' holds text"),
    "labels in words": (lambda: [row | {"labels": "yes"} for row in LISTS], "the column 'labels' holds text"),
    "an object": (lambda: [row | {"image": object()} for row in LISTS], "the column 'image' holds object"),
    "a number too many": (lambda: [row | {"idx": n} for n, row in enumerate(LISTS)], "the model takes no 'idx'"),
    "empty": (list, "data is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_data_that_do_not_fit_are_refused_in_a_sentence_and_change_nothing(name: str) -> None:
    make, message = REFUSED[name]
    model, sampler = toy(), dk.RankSampler(dk.Uniform(1, R), seed=0)
    adapters = adapted(model)
    before = state_of(model)
    for use in (
        lambda data: dk.train(model, adapters, data, sampler=sampler, steps=2, batch_size=4, progress=False),
        lambda data: dk.sweep(model, adapters, data, progress=False),
        lambda data: dk.predict(model, adapters, data, ranks=[1]),
        lambda data: dk.ranks_per_layer(model, adapters, data, budget=10**6),
    ):
        with pytest.raises(ValueError, match=message) as error:
            use(make())
        assert "\n" not in str(error.value)
    assert_same(state_of(model), before)
    assert adapters.rank == R and model.training
    if name != "a number too many":  # which the model itself says, when it is called
        assert torch.equal(sampler.draw_many(9), dk.RankSampler(dk.Uniform(1, R), seed=0).draw_many(9))


def test_numbers_and_texts_in_one_column_are_refused() -> None:
    with pytest.raises(TypeError, match="the column 'x' holds text in some examples and numbers in others"):
        stacked([{"x": 1}, {"x": "one"}])


def test_a_model_that_gives_no_loss_is_refused_in_a_sentence() -> None:
    unlabelled = [{"x": row["x"]} for row in examples()]
    with pytest.raises(ValueError, match=r"no loss for 'x': call the column with the answers 'labels', or pass loss=…"):
        train(unlabelled)
    model = toy()
    model.forward = lambda x, labels: (x, labels)
    with pytest.raises(ValueError, match=r"no loss \(it is a tuple\): pass loss=…"):
        train(examples(), model)


def test_a_model_that_takes_a_label_gets_it_by_that_name() -> None:
    class Single(type(toy())):
        def forward(self, x: Tensor, label: Tensor) -> Any:
            return super().forward(x, label)

    model = Single()
    adapters = adapted(model)
    data = [{"x": row["x"], "label": row["labels"]} for row in examples()]
    dk.train(model, adapters, data, sampler=dk.RankSampler(dk.Uniform(1, R), seed=0), steps=2, progress=False)
    assert dk.sweep(model, adapters, data, progress=False)["value"].notna().all()
