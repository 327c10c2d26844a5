"""One rank for each example: in every layout of a batch it is the example's own rank, or the layer is named."""

import copy
from typing import Any

import pytest
import torch
import transformers
from architectures import build, inputs, logits
from models import batch, fill, make
from torch import Tensor, nn

import dylora_kit as dk
from dylora_kit.core.handle import handle_of

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50}
SEQUENCES = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}


def longformer() -> Any:
    config = transformers.LongformerConfig(**SMALL, attention_window=[4, 4], max_position_embeddings=64)
    return transformers.LongformerModel(config)


def led() -> Any:
    sizes = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64}
    return transformers.LEDModel(transformers.LEDConfig(**SEQUENCES, attention_window=4, pad_token_id=0, **sizes))


def fsmt() -> Any:
    sizes = {name: size for name, size in SEQUENCES.items() if name != "vocab_size"}
    config = transformers.FSMTConfig(
        langs=["en", "de"], src_vocab_size=50, tgt_vocab_size=50, max_position_embeddings=64, **sizes
    )
    return transformers.FSMTModel(config)


def xlnet() -> Any:
    return transformers.XLNetModel(transformers.XLNetConfig(vocab_size=50, d_model=32, n_layer=2, n_head=4, d_inner=48))


def swin() -> Any:
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, num_channels=1, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4
    )
    return transformers.SwinModel(config)


MODELS: dict[str, tuple[Any, list[str]]] = {
    "longformer": (longformer, ["query", "value", "dense"]),
    "led": (led, ["query", "value", "output", "q_proj", "fc1"]),
    "fsmt": (fsmt, ["q_proj", "v_proj", "fc1"]),
    "xlnet": (xlnet, ["layer_1", "layer_2"]),
    "swin": (swin, ["q_proj", "v_proj", "o_proj", "fc1"]),
    "opt": (lambda: build("opt"), ["q_proj", "fc1", "fc2"]),
}


def filled(name: str) -> tuple[Any, dk.Adapters]:
    make_model, targets = MODELS[name]
    torch.manual_seed(1)
    model = make_model().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    adapters = dk.attach(model, r=4, target_modules=targets)
    fill(adapters)
    return model, adapters


def tokens(n: int, length: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(5, 50, (n, length), generator=torch.Generator().manual_seed(n * length))}


def answer(model: nn.Module, x: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**x)[0]


@pytest.mark.parametrize(("n", "length"), [(4, 8), (8, 8), (3, 8), (4, 4)])
@pytest.mark.parametrize("name", MODELS)
def test_each_example_runs_at_its_own_rank_whatever_the_order_of_the_axes(name: str, n: int, length: int) -> None:
    model, adapters = filled(name)
    x = {"pixel_values": torch.randn(n, 1, 16, 16)} if name == "swin" else tokens(n, length)
    if name == "led":
        x |= {"decoder_input_ids": x["input_ids"]}
    ranks = torch.tensor([1, 4, 2, 3, 1, 2, 4, 3])[:n]
    alone = []
    for example, rank in enumerate(ranks.tolist()):
        adapters.rank = rank
        alone.append(answer(model, x)[example])
    adapters.rank = ranks
    torch.testing.assert_close(answer(model, x), torch.stack(alone), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_s_own_transformer_layers_say_where_the_examples_are(batch_first: bool) -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=batch_first)).eval()
    adapters = dk.attach(model, r=4, target_modules=["linear1", "linear2"])
    fill(adapters)
    x, ranks = torch.randn(4, 4, 8), torch.tensor([1, 2, 3, 4])
    axis = 0 if batch_first else 1
    alone = []
    for example, rank in enumerate(ranks.tolist()):
        adapters.rank = rank
        alone.append(model(x).select(axis, example))
    adapters.rank = ranks
    torch.testing.assert_close(model(x), torch.stack(alone, axis))


class LengthFirst(nn.Module):
    """Its attention or recurrence gets (length, batch, d), and so do the layers beside it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.entry, self.block = nn.Linear(5, 8), nn.ModuleDict({"inner": inner, "up": nn.Linear(8, 8)})
        self.block.forward = self._through  # type: ignore[method-assign,assignment]

    def _through(self, x: Tensor) -> Tensor:
        inner = self.block["inner"]
        return self.block["up"](x + (inner(x, x, x) if isinstance(inner, nn.MultiheadAttention) else inner(x))[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.entry(x).transpose(0, 1).contiguous()).transpose(0, 1)


@pytest.mark.parametrize("inner", [lambda: nn.MultiheadAttention(8, 2), lambda: nn.GRU(8, 8)], ids=["heads", "GRU"])
@pytest.mark.parametrize(("n", "length"), [(3, 5), (4, 1), (4, 4)])
def test_a_layer_beside_one_that_has_the_length_first_is_computed_or_named(n: int, length: int, inner: Any) -> None:
    torch.manual_seed(0)
    model = LengthFirst(inner()).eval()
    adapters = dk.attach(model, r=4, target_modules=["entry", "up"])
    fill(adapters)
    x, alone = torch.randn(n, length, 5), []
    for example in range(n):
        adapters.rank = example + 1
        alone.append(model(x)[example])
    adapters.rank = torch.arange(n) + 1
    if n == length:
        with pytest.raises(ValueError, match=r"layer 'block\.up' has inputs of shape \(4, 4, 8\)"):
            model(x)
    else:
        torch.testing.assert_close(model(x), torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_a_model_that_wants_the_length_first_is_told_where_examples_must_be() -> None:
    model = nn.Sequential(nn.Linear(4, 6))
    adapters = dk.attach(model, r=2, target_modules=["0"])
    adapters.rank = torch.tensor([1, 2])
    with pytest.raises(ValueError, match=r"holds 7 along its first axis: pass one rank for each, with the examples f"):
        model(torch.randn(7, 2, 4))


def test_the_choices_of_an_example_have_its_rank() -> None:
    torch.manual_seed(0)
    model = transformers.BertForMultipleChoice(transformers.BertConfig(**SMALL)).eval()
    adapters = dk.attach(model, r=4, target_modules=["query", "dense"], modules_to_save=["classifier"])
    fill(adapters)
    ids, alone = torch.randint(5, 50, (3, 4, 6)), []
    for example, rank in enumerate([1, 4, 2]):
        adapters.rank = rank
        alone.append(model(input_ids=ids).logits[example])
    adapters.rank = torch.tensor([1, 4, 2])
    torch.testing.assert_close(model(input_ids=ids).logits, torch.stack(alone), rtol=1e-3, atol=1e-5)


class Turned(nn.Module):
    """Calls its layer with (length, batch, d), and says so nowhere."""

    def __init__(self, contiguous: bool = False) -> None:
        super().__init__()
        self.layer, self.contiguous = nn.Linear(6, 6), contiguous

    def forward(self, x: Tensor) -> Tensor:
        turned = x.transpose(0, 1)
        return self.layer(turned.contiguous() if self.contiguous else turned).transpose(0, 1)


@pytest.mark.parametrize("bottleneck", [None, "parallel", "houlsby"])
@pytest.mark.parametrize(("n", "length", "contiguous"), [(3, 5, True), (3, 5, False), (5, 5, False)])
def test_a_layer_of_another_order_is_named_and_not_computed_wrongly(
    n: int, length: int, contiguous: bool, bottleneck: str | None
) -> None:
    model = Turned(contiguous)
    adapters = dk.attach(model, r=2, target_modules=["layer"], bottleneck=bottleneck)
    adapters.rank = torch.ones(n, dtype=torch.long)
    with pytest.raises(ValueError, match=r"layer 'layer' has inputs of shape .* cannot be told apart"):
        model(torch.randn(n, length, 6))


class LearnedQueries(nn.Module):
    """Repeats its queries for each example without copying them."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.layer = nn.Parameter(torch.randn(4, 6)), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.queries.expand(len(x), 4, 6)) * x.mean()


def test_learned_queries_are_computed_unless_there_are_as_many_as_examples() -> None:
    model = LearnedQueries()
    adapters = dk.attach(model, r=3, target_modules=["layer"])
    fill(adapters)
    x, alone = torch.randn(3, 7), []
    for example, rank in enumerate([1, 3, 2]):
        adapters.rank = rank
        alone.append(model(x)[example])
    adapters.rank = torch.tensor([1, 3, 2])
    torch.testing.assert_close(model(x), torch.stack(alone), rtol=1e-4, atol=1e-6)
    adapters.rank = torch.tensor([1, 3, 2, 1])
    with pytest.raises(
        ValueError, match=r"layer 'layer' has inputs of shape \(4, 4, 6\), in which they cannot be told"
    ):
        model(torch.randn(4, 7))


def test_ranks_for_as_many_examples_as_tokens_are_refused_at_the_model_s_entry() -> None:
    model = Turned(contiguous=True)
    adapters = dk.attach(model, r=2, target_modules=["layer"])
    adapters.rank = torch.ones(5, dtype=torch.long)
    with pytest.raises(ValueError, match="names 5 examples, but the batch holds 3"):
        model(torch.randn(3, 5, 6))
    model, adapters = filled("longformer")
    adapters.rank = torch.ones(8, dtype=torch.long)
    with pytest.raises(ValueError, match="names 8 examples, but the batch holds 3"):
        model(**tokens(3, 8))


class SparseMoeBlock(nn.Module):
    """An expert gets some tokens, from all over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.expert = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.expert(x.reshape(-1, 6)[[7, 3, 1]])


def test_experts_are_named_although_they_may_have_as_many_tokens_as_there_are_examples() -> None:
    model = nn.Sequential(SparseMoeBlock())
    adapters = dk.attach(model, r=2, target_modules=["expert"])
    adapters.rank = torch.tensor([1, 2, 1])
    with pytest.raises(ValueError, match=r"layer '0\.expert' has inputs of shape"):
        model(torch.randn(3, 4, 6))


BEAMS: list[dict[str, Any]] = [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"num_beams": 1}]


@pytest.mark.parametrize("options", BEAMS, ids=["beams", "several answers", "greedy"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bart"])
def test_beams_have_the_rank_of_their_example(name: str, options: dict[str, Any]) -> None:
    model = build(name)
    adapters = dk.attach(model, r=4, target_modules="attention")
    fill(adapters)
    ids, ranks = tokens(3, 5)["input_ids"], torch.tensor([1, 4, 2])
    length = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    alone = []
    for example, rank in enumerate(ranks.tolist()):
        adapters.rank = rank
        alone.append(model.generate(input_ids=ids[example : example + 1], **length, **options))
    adapters.rank = ranks
    assert torch.equal(model.generate(input_ids=ids, **length, **options), torch.cat(alone))


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_outside_of_generation_a_batch_has_one_example_for_each_rank(name: str) -> None:
    model = build(name)
    adapters = dk.attach(model, r=4, target_modules="attention")
    fill(adapters)
    adapters.rank = torch.tensor([1, 4, 2])
    before = logits(model, inputs(name, n=3))
    model.generate(input_ids=tokens(3, 5)["input_ids"], num_beams=2, max_new_tokens=2)
    assert torch.equal(logits(model, inputs(name, n=3)), before)
    with pytest.raises(ValueError, match="names 3 examples, but the batch holds 6"):
        model(**inputs(name, n=6))
    with pytest.raises(ValueError, match="names 3 examples, "):
        model.generate(input_ids=tokens(4, 5)["input_ids"], max_new_tokens=2)
    model(**inputs(name, n=3))


def test_a_copy_watches_its_own_batches() -> None:
    model, adapters = make()
    adapters.rank = torch.tensor([1, 2, 3, 4, 5, 6])
    twin = copy.deepcopy(model)
    handle_of(twin).rank = torch.tensor([1, 2])
    assert twin(batch()[:2]).shape == (2, 5)
    assert model(batch()).shape == (6, 5)
    with pytest.raises(ValueError, match="names 2 examples, but the batch holds 6"):
        twin(batch())
