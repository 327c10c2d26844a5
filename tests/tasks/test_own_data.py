"""Your own files and tables as a task: what is read, how it is cut, and what is refused."""

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

import dylora_kit as dk
from dylora_kit.tasks import own_data

N = 40


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    words = ["na", "été", *(f"w{index}" for index in range(N))]
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), encoding="utf-8")
    return BertTokenizerFast(str(path), model_max_length=16, strip_accents=False)


def rows(classes: list[Any] | None = None, number: int = N) -> list[dict[str, Any]]:
    names = classes or ["bad", "good"]
    return [
        {"id": index, "review": f"w{index} w0", "other": f"w{index}", "stars": names[index % len(names)]}
        for index in range(number)
    ]


def load(data: Any, tokenizer: Any, **arguments: Any) -> own_data.OwnTask:
    return own_data.load(data, tokenizer, **{"text": "review", "label": "stars"} | arguments)


def contents(task: own_data.OwnTask) -> list[list[dict[str, Any]]]:
    return [list(part) for part in (task.train, task.validation, task.test)]


def write(path: Path, encoding: str = "utf-8") -> Path:
    frame = pd.DataFrame(rows())
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows())), encoding=encoding)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows()), encoding=encoding)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",", encoding=encoding)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "frame", "Dataset", "list"])
def test_each_kind_of_data_gives_the_same_task(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    in_memory = {"frame": pd.DataFrame(rows()), "Dataset": datasets.Dataset.from_list(rows()), "list": rows()}
    data = in_memory.get(kind)
    task = load(write(tmp_path / f"mine.{kind}") if data is None else data, tokenizer)
    expected = load(rows(), tokenizer)
    assert contents(task) == contents(expected)
    assert task.classes == ("bad", "good") and own_data.num_labels(task) == 2
    assert task.name == ("mine" if data is None else "own data")


def test_a_tenth_each_is_put_aside_and_no_row_is_in_two_parts(tokenizer: Any) -> None:
    task = load(rows(), tokenizer)
    parts = [{tuple(row["input_ids"]) for row in part} for part in contents(task)]
    assert [len(part) for part in parts] == [32, 4, 4]
    assert len(set.union(*parts)) == N
    assert contents(load(rows(), tokenizer, seed=1)) != contents(task) == contents(load(rows(), tokenizer))


def test_parts_that_are_given_are_taken_whole(tokenizer: Any) -> None:
    task = load(rows(), tokenizer, test=rows(number=6), validation=rows(number=5))
    assert [len(part) for part in contents(task)] == [N, 5, 6]


def test_labels_follow_the_sorted_classes(tokenizer: Any) -> None:
    task = load(rows(["10", "9", "2"]), tokenizer)
    assert task.classes == ("2", "9", "10")
    first = {tuple(tokenizer(row["review"])["input_ids"]): row["stars"] for row in rows(["10", "9", "2"])}
    for row in task.train:
        assert task.classes[row["labels"]] == first[tuple(row["input_ids"])]
    assert load(rows([True, False]), tokenizer).classes == ("False", "True")


def test_a_pair_of_texts_is_one_input(tokenizer: Any) -> None:
    task = load(rows(), tokenizer, text=["review", "other"])
    row = task.train[0]
    assert row["input_ids"].count(tokenizer.sep_token_id) == 2
    assert set(row["token_type_ids"]) == {0, 1}


def test_scores_are_numbers_and_their_metric_is_pearsons(tokenizer: Any) -> None:
    data = [row | {"stars": str(row["id"] / 4)} for row in rows()]
    task = load(data, tokenizer, scores=True)
    assert task.metric == "pearson" and own_data.num_labels(task) == 1
    assert sorted(row["labels"] for part in contents(task) for row in part) == [index / 4 for index in range(N)]


def test_words_that_look_like_numbers_or_gaps_stay_words(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("review,stars\n" + "".join(f"NA,{'007' if index % 2 else '08'}\n" for index in range(N)))
    task = load(path, tokenizer)
    assert task.classes == ("007", "08")
    assert tokenizer.decode(task.train[0]["input_ids"], skip_special_tokens=True) == "na"


def test_a_file_in_another_encoding_is_read_when_it_is_named(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(("review,stars\n" + "".join(f"été w{index},{index % 2}\n" for index in range(N))).encode("cp1252"))
    with pytest.raises(ValueError, match=r"'mine.csv' is not in utf-8: name its encoding, such as 'cp1252'"):
        load(path, tokenizer)
    task = load(path, tokenizer, encoding="cp1252")
    assert tokenizer.decode(task.train[0]["input_ids"], skip_special_tokens=True).startswith("été")


@pytest.mark.parametrize("first", ["w1, but w2", "w1"])
def test_a_text_with_a_comma_outside_quotes_is_refused(first: str, tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"review,stars\n{first},0\n" + "".join(f"w{index}, w0,{index % 2}\n" for index in range(N)))
    with pytest.raises(ValueError, match="put texts with a comma in quotes"):
        load(path, tokenizer)


def test_texts_alone_are_read_without_marks_and_gaps(tmp_path: Path) -> None:
    lines, table = tmp_path / "mine.txt", tmp_path / "mine.csv"
    lines.write_bytes("\ufeffone\r\n\r\ntwo\u2028half\n".encode())
    table.write_text('id,review\n1,one\n2," "\n3,"two, three"\n')
    assert own_data.read_texts(lines) == ["one", "two\u2028half"]
    assert own_data.read_texts(table, "review") == ["one", "two, three"]
    table.write_text("review\nGood, but slow\nFine\n")
    with pytest.raises(ValueError, match="put texts with a comma in quotes"):
        own_data.read_texts(table, "review")


def test_a_model_trains_on_it_and_a_sweep_measures_it(tokenizer: Any) -> None:
    task = load(rows(), tokenizer)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, num_labels=own_data.num_labels(task))  # fmt: skip
    model = BertForSequenceClassification(config)
    adapters = dk.attach(model, r=4, target_modules=["query", "value"], modules_to_save=["classifier"])
    batch = next(iter(DataLoader(task.train, batch_size=3, collate_fn=task.collate)))
    assert set(batch) >= {"input_ids", "attention_mask", "labels"}
    sampler = dk.RankSampler(dk.Uniform(1, 4), seed=0)
    dk.train(model, adapters, task.train, sampler=sampler, steps=3, collate=task.collate, progress=False)
    frame = dk.sweep(model, adapters, task.test, metric=task.metric, collate=task.collate, progress=False)
    assert frame["rank"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("data", "arguments", "problem"),
    [
        (rows(), {"text": "text"}, "data has no column 'text': its columns are 'id', 'review', 'other', 'stars'"),
        (rows(), {"label": "label"}, "data has no column 'label'"),
        (rows(), {"text": ["review", "other", "id"]}, "text must be one column or two"),
        (rows(["good"]), {}, "all training rows have the class 'good': expected two classes at least"),
        (rows(number=9), {}, "data has 9 rows: expected 10 at least"),
        ([*rows(), {"review": " ", "stars": "good"}], {}, "row 41 of data has nothing in column 'review', one of 1"),
        ([*rows(), {"review": "w1"}], {}, "row 41 of data has nothing in column 'stars', one of 1 such rows: leave"),
        (rows(), {"test": rows(["new", "good"])}, "the class 'new' of the test rows is in no training row"),
        (rows([0.5, 1.0]), {"test": rows([0.25])}, "or scores=True (--scores) if labels are numbers to be predicted"),
        (rows(), {"test": [{"review": "w1"}]}, "test has no column 'stars': its columns are 'review'"),
        (rows(), {"scores": True}, "'bad' in row 1 of data is not a score: expected finite numbers in 'stars'"),
        (rows([1.0, float("inf")]), {"scores": True}, "'inf' in row 2 of data is not a score"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused_in_a_sentence(
    data: Any, arguments: dict[str, Any], problem: str, tokenizer: Any
) -> None:
    with pytest.raises(ValueError) as refusal:
        load(data, tokenizer, **arguments)
    assert problem in str(refusal.value)


def test_what_is_no_table_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="data is a int: expected the path of a file, a pandas frame"):
        load(5, tokenizer)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "mine.csv", tokenizer)
    with pytest.raises(ValueError, match=r"'mine.xlsx' is of an unknown kind: expected a file that ends in .csv"):
        load(tmp_path / "mine.xlsx", tokenizer)
    broken = tmp_path / "mine.json"
    broken.write_text('[{"review": "w1",')
    with pytest.raises(ValueError, match=r"'mine.json' cannot be read as a table"):
        load(broken, tokenizer)


def test_a_tokenizer_without_pad_token_is_refused(tokenizer: Any) -> None:
    bare = BertTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token=None)
    bare.pad_token = None
    with pytest.raises(ValueError, match="the tokenizer has no pad token"):
        load(rows(), bare)
