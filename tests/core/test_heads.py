"""A head that is new is named when adapters are attached, unless it is trained along or frozen on purpose."""

import warnings

import pytest
import torch
import transformers
from architectures import build, calm
from models import make
from torch import nn

import dylora_kit as dk


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pretrained models without a head."""
    root = tmp_path_factory.mktemp("pretrained")
    for name in ("bert", "distilbert", "vit", "gpt2", "llama", "roberta"):
        model = build(name)
        getattr(model, model.base_model_prefix).save_pretrained(root / name)
    build("bert").save_pretrained(root / "classifier")
    build("llama").save_pretrained(root / "llama-lm")
    return root


def opened(kind, folder):
    with calm():
        return getattr(transformers, kind).from_pretrained(folder)


def warnings_of(model, **options):
    options = {"target_modules": "attention", "r": 2} | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dk.attach(model, **options)
    return [str(warning.message) for warning in caught]


NEW = {
    "classifier": ("BertForSequenceClassification", "bert", ["classifier"]),
    "token classifier": ("BertForTokenClassification", "bert", ["classifier"]),
    "qa_outputs": ("DistilBertForQuestionAnswering", "distilbert", ["qa_outputs"]),
    "two": ("DistilBertForSequenceClassification", "distilbert", ["pre_classifier", "classifier"]),
    "score": ("GPT2ForSequenceClassification", "gpt2", ["score"]),
    "pictures": ("ViTForImageClassification", "vit", ["classifier"]),
    "choice": ("RobertaForMultipleChoice", "roberta", ["roberta.pooler", "classifier"]),
}


@pytest.mark.parametrize(("kind", "folder", "heads"), NEW.values(), ids=NEW)
def test_a_new_head_that_is_not_trained_along_is_named(folders, kind, folder, heads):
    messages = warnings_of(opened(kind, folders / folder))
    assert len(messages) == 1
    assert messages[0].startswith(", ".join(heads) + ": new weights")
    assert f"modules_to_save={heads}" in messages[0]
    assert warnings_of(opened(kind, folders / folder), modules_to_save=heads) == []
    model = opened(kind, folders / folder)
    for head in heads:
        model.get_submodule(head).requires_grad_(False)
    assert warnings_of(model) == []


def test_only_the_part_that_is_left_out_is_named(folders):
    model = opened("DistilBertForSequenceClassification", folders / "distilbert")
    (message,) = warnings_of(model, modules_to_save=["classifier"])
    assert message.startswith("pre_classifier: new weights")


def test_a_head_of_the_users_own_on_a_pretrained_model_is_named(folders):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = opened("BertModel", folders / "bert")
            self.mix, self.out = nn.Parameter(torch.zeros(3)), nn.Linear(32, 2)

    (message,) = warnings_of(Mine())
    assert message.startswith("out: new weights")


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2-score", "vit", "roberta"])
def test_a_model_made_from_a_config_has_a_new_head(name):
    (message,) = warnings_of(build(name))
    assert "classifier: new weights" in message or "score: new weights" in message


QUIET = {
    "language model": lambda root: opened("LlamaForCausalLM", root / "llama-lm"),
    "tied language model": lambda root: build("gpt2"),
    "made language model": lambda root: build("llama"),
    "encoder and decoder": lambda root: build("t5"),
    "no head": lambda root: opened("BertModel", root / "bert"),
    "pretrained classifier": lambda root: opened("BertForSequenceClassification", root / "classifier"),
    "frozen": lambda root: build("bert").requires_grad_(False),
    "masked": lambda root: transformers.BertForMaskedLM(build("bert").config),
}


@pytest.mark.parametrize("make_model", QUIET.values(), ids=QUIET)
def test_nothing_is_said_where_no_head_is_new(folders, make_model):
    assert warnings_of(make_model(folders)) == []


def test_nothing_is_said_of_plain_networks_and_of_loaded_adapters(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(r=2)
    with calm():
        dk.attach(build("bert"), target_modules="attention", r=2).save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.load(build("bert"), tmp_path)


def test_a_new_head_that_differs_in_the_next_session_is_noticed_by_load(folders, tmp_path):
    torch.manual_seed(0)
    with calm():
        adapters = dk.attach(opened("BertForSequenceClassification", folders / "bert"), target_modules="attention", r=2)
    adapters.save(tmp_path)
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match="another base.*'classifier.weight' has other values"):
        dk.load(opened("BertForSequenceClassification", folders / "bert"), tmp_path)
