"""DART: a text from triples of tables and of WebNLG and E2E (the paper's Table 9), version 1.1.1.

From the hub or from a local folder, which is given or named by `DYLORA_KIT_DATA`, with the official files
`dart/dart-v1.1.1-full-train.json`, `…-dev.json` and `…-test.json`. Where one is missing, a file such as
`dart-v1.1.1-train-partial.json` or `dart-v1.1.1-full-dev_subset.json` is read, and the task's name then ends in
"(subset)".

`load(tokenizer)` gives rows whose `"facts"` are triples. Entries with the same triples in the same order are one input,
as in the scores of LoRA's authors: 4,159 in test. As they do, the line has the predicates in lower case. Arguments and
errors are those of `generation.Source.load`.
"""

from typing import Any

from dylora_kit.tasks.generation import Entry, Part, Source, read_json_list, triple, triples_line


def _triples(parts: Any) -> list[tuple[str, str, str]]:
    if not parts:
        raise ValueError("no triples")
    return [(subject, predicate.lower(), value) for subject, predicate, value in map(triple, parts)]


def _entry(entry: Any) -> Entry:
    return _triples(entry["tripleset"]), [annotation["text"] for annotation in entry["annotations"]]


def _hub_entry(entry: Any) -> Entry:
    return _triples(entry["tripleset"]), list(entry["annotations"]["text"])


DART = Source(
    name="dart",
    hub=("Yale-LILY/dart",),
    parts=(
        Part("dart-v1.1.1-full-train.json", "dart-v1.1.1*train[-_][ps]*.json", 30526, "train"),
        Part("dart-v1.1.1-full-dev.json", "dart-v1.1.1*dev[-_][ps]*.json", 2768, "validation"),
        Part("dart-v1.1.1-full-test.json", "dart-v1.1.1*test[-_][ps]*.json", 5097, "test"),
    ),
    read=read_json_list,
    entry=_entry,
    hub_entry=_hub_entry,
    line=triples_line,
    metrics=("bleu", "meteor", "ter"),
)
load = DART.load
