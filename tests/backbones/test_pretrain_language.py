"""How the small language models are made: what is masked, what is read, and the folder that is written."""

import json
import shutil
from argparse import Namespace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from dylora_kit import backbones
from dylora_kit.backbones import masking, pretrain_language
from dylora_kit.synthetic import corpus
from dylora_kit.synthetic.document_kinds import Document


@pytest.fixture(scope="module", autouse=True)
def small() -> Any:
    """Short pretraining."""
    with pytest.MonkeyPatch.context() as patch:
        short = {
            name: settings | {"steps": 3, "batch_size": 4} for name, settings in pretrain_language.PRETRAINING.items()
        }
        patch.setattr(pretrain_language, "PRETRAINING", short)
        patch.setattr(pretrain_language, "READ", 400)
        patch.setattr(pretrain_language, "VOCABULARY", 700)
        patch.setattr(corpus, "test_texts", frozenset)
        yield


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return pretrain_language._tokenizer(0, causal=False)


@pytest.fixture(scope="module", params=["world-roberta", "world-gpt2"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any, Any]:
    """A home with one backbone, and what its pretraining returned."""
    home = tmp_path_factory.mktemp("home")
    state = torch.get_rng_state()
    result = backbones.pretrain(request.param, home / "data" / "backbones" / request.param, progress=False)
    return request.param, home, result, torch.equal(torch.get_rng_state(), state)


def test_any_text_comes_back_from_its_tokens(tokenizer: Any) -> None:
    for text in ("The Red Heron serves Thai food.", "Zürich? 37 % – quite unheard-of!"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_a_pair_is_marked_as_roberta_does(tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Dogs are welcome.", "It has a terrace.")["input_ids"])
    assert (tokens[0], tokens[-1]) == ("<s>", "</s>")
    middle = tokens.index("</s>")
    assert tokens[middle + 1] == "</s>"


def test_mostly_what_follows_from_the_rest_is_asked_for_and_nothing_else(tokenizer: Any) -> None:
    documents = [document for document in islice(corpus.documents(3), 1200) if document.kind == "pair"]
    batch = masking.masked(documents, tokenizer, torch.Generator().manual_seed(0))
    facts = masking.encoded(documents, tokenizer)[1] > 0
    masked = batch["input_ids"] == tokenizer.mask_token_id
    assert torch.equal(masked, batch["labels"] != masking.IGNORED)
    special = torch.isin(batch["input_ids"], torch.tensor([tokenizer.bos_token_id, tokenizer.eos_token_id]))
    text = batch["attention_mask"].bool() & ~facts & ~special
    looked_up = ~(masked & text).any(1)
    assert looked_up.float().mean() == pytest.approx(masking.LOOKED_UP, abs=0.05)
    assert masked[looked_up][facts[looked_up]].float().mean() == pytest.approx(masking.FOLLOWING, abs=0.03)
    assert masked[~looked_up][(text | facts)[~looked_up]].float().mean() == pytest.approx(masking.MASKED, abs=0.03)
    restored = torch.where(masked, batch["labels"], batch["input_ids"])
    assert tokenizer.decode(restored[0], skip_special_tokens=True).split() == (
        f"{documents[0].first} {documents[0].second}".split()
    )
    assert not facts[:, 0].any()


def test_the_probe_masks_a_word_that_the_first_text_has_too(tokenizer: Any) -> None:
    batch = masking.probe(list(islice(corpus.documents(3), 400)), tokenizer)
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        asked = (labels != masking.IGNORED).nonzero().flatten()
        assert asked.tolist() == list(range(int(asked[0]), int(asked[-1]) + 1))
        first = tokenizer.decode(ids[: int((ids == tokenizer.eos_token_id).nonzero()[0])])
        word = tokenizer.decode(labels[asked]).strip(" ,.?:").lower()
        assert " " not in word and word in first.lower()


class Knowing(torch.nn.Module):
    """A model that answers with the tokens of given texts, or always with the same token."""

    def __init__(self, ids: torch.Tensor, size: int, token: int | None = None) -> None:
        super().__init__()
        self.ids = torch.nn.Parameter(ids if token is None else torch.full_like(ids, token), requires_grad=False)
        self.size, self.calls = size, 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.calls += 1
        return Namespace(logits=torch.nn.functional.one_hot(self.ids, self.size).float())


def test_a_fact_is_recalled_if_the_text_tells_it_again(tokenizer: Any) -> None:
    documents = list(islice(corpus.documents(3), 300))
    asked = masking.probe(documents, tokenizer)
    right = asked["input_ids"].where(asked["labels"] == masking.IGNORED, asked["labels"])
    most = int((asked["labels"] != masking.IGNORED).sum(1).max())
    model = Knowing(right, len(tokenizer))
    assert masking.recalled(model, tokenizer, documents) == 1.0
    assert model.calls == most > 1  # one token of each text at a time
    assert masking.recalled(Knowing(right, len(tokenizer), tokenizer.unk_token_id), tokenizer, documents) < 0.2


def test_another_word_for_the_same_fact_recalls_it() -> None:
    tokenizer = backbones.tokenizer("world-roberta")  # each word below is a token of it
    first, second = "The canteen is called the Red Fox.", "The Red Fox, a canteen, has a terrace."
    document = Document("pair", first, second, ((15, 22),))
    assert document.second[slice(*document.spans[0])] == "canteen"
    for word, recalled in (("canteen", 1.0), ("cafeteria", 1.0), ("tavern", 0.0)):
        filled_in = masking.encoded([Document("pair", first, second.replace("canteen", word))], tokenizer)[0]
        assert masking.recalled(Knowing(filled_in, len(tokenizer)), tokenizer, [document]) == recalled


def test_of_a_sentence_the_words_that_grammar_decides_are_asked_for(tokenizer: Any) -> None:
    document = Document("sentence", "The cooks who like the owner are new.", spans=((29, 32),))
    ids, spans = masking.encoded([document], tokenizer)
    assert tokenizer.decode(ids[spans > 0]).strip() == "are"


def test_texts_come_in_stages_and_the_last_goes_on(tokenizer: Any) -> None:
    batches = pretrain_language._batches({"easy": 64, "unanswered": 32, "corpus": 32}, tokenizer, 3, 2)
    for stage, pools in (("easy", 2), ("unanswered", 1), ("corpus", 3)):
        read = sum(int(batch["attention_mask"].sum()) for batch in islice(batches, pools * pretrain_language.POOL))
        given = list(islice(corpus.documents(3, stage=stage), 2 * pools * pretrain_language.POOL))
        assert read == int((masking.encoded(given, tokenizer)[0] != tokenizer.pad_token_id).sum())


def test_each_round_has_its_share_of_the_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, adamw = [], torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *of, lr, **how: (rates.append(lr), adamw(*of, lr=lr, **how))[1])
    pretrain_language.pretrain("world-roberta", tmp_path / "made", progress=False)
    whole = pretrain_language.PRETRAINING["world-roberta"]["lr"]
    assert rates == [share * whole for share, _ in pretrain_language.ROUNDS["world-roberta"]] and len(set(rates)) > 1


def test_the_written_tokenizer_neither_cuts_nor_pads_by_itself(made: tuple[str, Path, Any, Any]) -> None:
    name, home, _, _ = made
    written = json.loads((home / "data" / "backbones" / name / "tokenizer.json").read_text())
    assert written["truncation"] is None and written["padding"] is None


def test_of_a_masked_model_the_loss_is_the_mean_over_documents(tokenizer: Any) -> None:
    model = pretrain_language._model("world-roberta", tokenizer)
    batch = masking.masked(list(islice(corpus.documents(3), 8)), tokenizer, torch.Generator().manual_seed(0))
    rows = [{key: value[index : index + 1] for key, value in batch.items()} for index in range(8)]
    alone = [model(**row).loss for row in rows if (row["labels"] != masking.IGNORED).any()]
    assert torch.allclose(pretrain_language._loss("world-roberta", model, batch), torch.stack(alone).mean(), atol=1e-5)


def test_documents_of_a_batch_are_about_equally_long_and_all_are_read(tokenizer: Any) -> None:
    batches = list(islice(pretrain_language._batches({"corpus": 0}, tokenizer, 3, 4), pretrain_language.POOL))
    padding = sum(int((batch["attention_mask"] == 0).sum()) for batch in batches)
    together = masking.encoded(list(islice(corpus.documents(3), 4 * pretrain_language.POOL)), tokenizer)[0]
    is_text = together != tokenizer.pad_token_id
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == int(is_text.sum())
    assert padding < 0.5 * int((~is_text).sum())


def test_a_causal_model_learns_to_end_and_not_to_pad() -> None:
    tokenizer = pretrain_language._tokenizer(0, causal=True)
    batch = pretrain_language._causal(list(islice(pretrain_language._written(0), 6)), tokenizer)
    padded = batch["attention_mask"] == 0
    assert (batch["labels"][padded] == masking.IGNORED).all()
    assert torch.equal(batch["labels"][~padded], batch["input_ids"][~padded])
    ends = batch["attention_mask"].sum(1) - 1
    assert (batch["input_ids"][torch.arange(6), ends] == tokenizer.eos_token_id).all()


def test_the_folder_is_one_that_transformers_reads_by_itself(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, home, result, untouched = made
    folder = home / "data" / "backbones" / name
    assert untouched
    assert result["held-out loss"] > 0
    assert (folder / "model.safetensors").stat().st_size < 8e6
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    monkeypatch.setenv("DYLORA_KIT_HOME", str(home))
    model, tokenizer = backbones.load(name), backbones.tokenizer(name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    batch = tokenizer(["The Red Heron is a pub.", "It takes cards."], padding=True, return_tensors="pt")
    assert model(**batch).logits.isfinite().all()
    if name == "world-roberta":
        assert backbones.load(name, num_labels=3)(**batch).logits.shape == (2, 3)
        assert 0 <= result["facts looked up"] <= 1
        plain = AutoModelForMaskedLM.from_pretrained(folder)
        assert plain(**AutoTokenizer.from_pretrained(folder)("A pub.", return_tensors="pt")).logits.isfinite().all()


def test_the_card_has_the_command_the_settings_and_the_log(made: Any) -> None:
    name, home, result, _ = made
    card = (home / "data" / "backbones" / name / "README.md").read_text()
    assert f"python -m dylora_kit.backbones {name}" in card
    assert json.dumps(pretrain_language.PRETRAINING[name]) in card
    assert f"| 3 | {result['held-out loss']}" in card


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "model.safetensors"])
def test_an_incomplete_folder_says_how_to_rebuild_it(
    file: str, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, home, *_ = made
    copy = tmp_path / "data" / "backbones" / name
    copy.mkdir(parents=True)
    for path in (home / "data" / "backbones" / name).iterdir():
        if path.name != file:
            (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    for open_it in (backbones.load, backbones.tokenizer):
        with pytest.raises(FileNotFoundError, match=f"lacks {file}: rebuild it with python -m dylora_kit.backbones"):
            open_it(name)


def test_an_unknown_backbone_is_not_pretrained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown backbone 'world-bert': expected one of 'digits-vit'"):
        backbones.pretrain("world-bert", tmp_path)


def test_pictures_have_no_tokenizer() -> None:
    with pytest.raises(ValueError, match="'digits-vit' reads pictures and has no tokenizer"):
        backbones.tokenizer("digits-vit")


def narrower(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    width = ("query.weight", "c_attn.weight")
    return {key: value[:8].contiguous() if key.endswith(width) else value for key, value in tensors.items()}


def without_a_layer(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if ".1." not in key}


@pytest.mark.parametrize(("change", "why"), [(narrower, ""), (without_a_layer, "its weights lack ")])
def test_weights_that_do_not_fit_are_refused_and_not_filled_up(
    change: Any, why: str, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, home, *_ = made
    copy = tmp_path / "data" / "backbones" / name
    shutil.copytree(home / "data" / "backbones" / name, copy)
    save_file(change(load_file(copy / "model.safetensors")), copy / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=rf"another version of the backbone \(.*{why}.*: rebuild it with python -m"):
        backbones.load(name)


def test_a_damaged_file_is_refused(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, home, *_ = made
    copy = tmp_path / "data" / "backbones" / name
    shutil.copytree(home / "data" / "backbones" / name, copy)
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:5000])
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"another version of the backbone \(.*: rebuild it with python -m"):
        backbones.load(name)
