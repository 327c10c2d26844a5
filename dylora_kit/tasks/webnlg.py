"""WebNLG 2017: a text from up to seven triples of DBpedia (the paper's Table 9).

From the hub or from a local folder, which is given or named by `DYLORA_KIT_DATA`, with the files `webnlg/train.json`,
`dev.json` and `test.json` of the challenge. Where one is missing, a file such as `train_subset.json` is read, and the
task's name then ends in "(subset)".

`load(tokenizer)` gives rows whose `"facts"` are triples. The line has the modified triples, and only texts that are
marked as good count, as in LoRA's experiments. The test part has 1,862 inputs, of categories that train has and of five
that it has not. Arguments and errors are those of `generation.Source.load`.
"""

from typing import Any

from dylora_kit.tasks.generation import Entry, Part, Source, read_json_list, triple, triples_line


def _entry(entry: Any) -> Entry:
    (content,) = entry.values()
    triples = [triple([part["subject"], part["property"], part["object"]]) for part in content["modifiedtripleset"]]
    if not triples:
        raise ValueError("no triples")
    return triples, [text["lex"] for text in content["lexicalisations"] if text["comment"] == "good"]


def _hub_entry(entry: Any) -> Entry:
    (lines,) = entry["modified_triple_sets"]["mtriple_set"]
    texts, lex = list[str](), entry["lex"]
    for text, comment in zip(lex["text"], lex["comment"], strict=True):
        texts += [text] if comment == "good" else []
    return [triple(line.split(" | ")) for line in lines], texts


WEBNLG = Source(
    name="webnlg",
    hub=("webnlg-challenge/web_nlg", "webnlg_challenge_2017"),
    parts=(
        Part("train.json", "train_subset.json", 6940, "train"),
        Part("dev.json", "dev_subset.json", 872, "dev"),
        Part("test.json", "test_subset.json", 1862, "test"),
    ),
    read=read_json_list,
    entry=_entry,
    hub_entry=_hub_entry,
    line=triples_line,
    metrics=("bleu", "meteor", "ter"),
)
load = WEBNLG.load
