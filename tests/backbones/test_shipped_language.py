"""The language models that come with the kit: they are what the command makes, and good enough."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from dylora_kit import backbones
from dylora_kit.backbones import masking, pretrain_language
from dylora_kit.synthetic import corpus
from dylora_kit.synthetic.document_kinds import ANSWERS, IN_COMMON, JUDGED

DATA = backbones.data_folder()


@pytest.mark.parametrize("name", pretrain_language.PRETRAINING)
def test_plain_transformers_opens_a_small_model_in_single_precision(name: str) -> None:
    folder = DATA / "backbones" / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    auto_class = {"world-roberta": "AutoModelForMaskedLM", "world-gpt2": "AutoModelForCausalLM"}[name]
    model = getattr(transformers, auto_class).from_pretrained(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 0.99e6 < sum(p.numel() for p in model.parameters()) < 4e6
    assert transformers.AutoTokenizer.from_pretrained(folder).mask_token == pretrain_language.MASK


def test_the_cards_name_the_settings_in_use() -> None:
    for name, settings in pretrain_language.PRETRAINING.items():
        card = (DATA / "backbones" / name / "README.md").read_text()
        assert f"`{json.dumps(settings)}`" in card and f"python -m dylora_kit.backbones {name}" in card


@pytest.mark.parametrize("name", pretrain_language.PRETRAINING)
def test_the_rounds_have_the_steps_of_the_settings_and_can_be_shorter(name: str) -> None:
    assert pretrain_language._rounds(name, pretrain_language.PRETRAINING[name]["steps"]) == list(
        pretrain_language.ROUNDS[name]
    )
    for steps in (1, 3, 1000):
        shorter = pretrain_language._rounds(name, steps)
        assert [share for share, _ in shorter] == [share for share, _ in pretrain_language.ROUNDS[name]]
        assert sum(sum(stages.values()) for _, stages in shorter) == steps


@pytest.fixture(scope="module")
def model() -> Any:
    return transformers.AutoModelForMaskedLM.from_pretrained(DATA / "backbones" / "world-roberta").eval()


def test_the_masked_model_looks_facts_up(model: Any) -> None:
    tokenizer = backbones.tokenizer("world-roberta")
    # another seed than that of pretraining, and than that of the probe in its log
    batch = masking.probe(list(islice(corpus.documents(7), 1500)), tokenizer)
    with torch.no_grad():
        right = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1) == batch["labels"]
    assert right[batch["labels"] != masking.IGNORED].float().mean() >= 0.95


def test_the_masked_model_knows_which_sentences_are_wrong_and_no_mask_gives_it_away(model: Any) -> None:
    tokenizer = backbones.tokenizer("world-roberta")
    assert all(len(tokenizer.tokenize(f" {word}")) == 1 for word in (*ANSWERS, *JUDGED, *IN_COMMON))
    assert pretrain_language._judged(model, tokenizer) >= 0.9


def test_the_masked_models_tokenizer_is_the_one_that_its_command_makes() -> None:
    made = pretrain_language._tokenizer(
        pretrain_language.PRETRAINING["world-roberta"]["seed"], causal=False
    ).backend_tokenizer
    shipped = (DATA / "backbones" / "world-roberta" / "tokenizer.json").read_text()
    assert json.loads(made.to_str()) == json.loads(shipped)


def test_the_causal_model_goes_on_from_facts_in_english(tmp_path: Path) -> None:
    tokenizer, model = backbones.tokenizer("world-gpt2"), backbones.load("world-gpt2")
    ids = tokenizer("name: the Red Fox; kind: pub\n", return_tensors="pt")["input_ids"]
    generated = model.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]
    text = tokenizer.decode(generated, skip_special_tokens=True)
    assert "Red Fox" in text and "pub" in text
