"""Rows that reach a layer in another order than the examples are refused, and all others run at their own rank."""

from typing import Any

import pytest
import torch
import transformers
from models import fill
from torch import Tensor, nn

import dylora_kit as dk

N, L, D = 3, 4, 6
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.layers = nn.Linear(D, D), nn.ModuleList([nn.Linear(D, D), nn.Linear(D, D)])
        self.register_buffer("numbers", torch.tensor([2, 0, 1]))
        self.picks = True


class ByLength(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        lengths, order = lengths.sort(descending=True)
        return self.layer(x[order])[order.argsort()]


class Backwards(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(torch.flip(x, [0])).flip(0)


class ByBuffer(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(x.index_select(0, self.numbers))


class ByRouter(OneLayer):
    """A mixture of experts that is called nothing of the kind."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        flat, out = x.reshape(-1, D), torch.zeros(N * L, D)
        best = flat[:, :2].argmax(-1)
        for number, module in enumerate(self.layers):
            rows = (best == number).nonzero()[:, 0]
            out = out.index_copy(0, rows, module(flat[rows]))
        return out


class Shuffled(OneLayer):
    """The second layer gets what was shuffled behind the first."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        for module in self.layers:
            x = module(x)
            x = x[torch.randperm(len(x))]
        return x


@pytest.mark.parametrize(
    ("kind", "target"),
    [(ByLength, "layer"), (Backwards, "layer"), (ByBuffer, "layer"), (ByRouter, "layers.1"), (Shuffled, "layers.1")],
)
def test_a_layer_that_gets_chosen_rows_is_named(kind: Any, target: str) -> None:
    model = kind()
    adapters = dk.attach(model, r=4, target_modules=[target])
    adapters.rank = torch.tensor([1, 4, 2])
    with pytest.raises(ValueError, match=rf"layer '{target}' has inputs of shape .* cannot be told apart"):
        model(torch.ones(N, L, D), torch.tensor([2, 4, 3]))
    adapters.rank = 2
    assert model(torch.ones(N, L, D), torch.tensor([2, 4, 3])).shape[-1] == D


class Tables(nn.Module):
    """Compares its input with a table of as many rows as there are examples, by a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Parameter(torch.randn(L, D)), nn.Embedding(L, D)
        self.register_buffer("waves", torch.randn(L, D))
        self.queries, self.keys = nn.Linear(D, 5), nn.Linear(D, 5)

    def rows(self, x: Tensor) -> Tensor:
        return self.keys(self.table)

    def forward(self, x: Tensor) -> Tensor:
        return self.queries(x) @ self.rows(x).mT


class OfAnEmbedding(Tables):
    def rows(self, x: Tensor) -> Tensor:
        return self.keys(self.places.weight)


class OfABuffer(Tables):
    def rows(self, x: Tensor) -> Tensor:
        waves = self.waves.to(x.dtype)
        return self.keys(waves)


class OfPlaces(Tables):
    def rows(self, x: Tensor) -> Tensor:
        places = torch.arange(0, x.shape[1], device=x.device)
        return self.keys(self.places(places))


@pytest.mark.parametrize("kind", [Tables, OfAnEmbedding, OfABuffer, OfPlaces])
def test_rows_of_a_table_are_not_taken_for_examples(kind: Any) -> None:
    model = kind()
    adapters = dk.attach(model, r=4, target_modules=["keys"])
    adapters.rank = torch.arange(L) + 1
    with pytest.raises(ValueError, match=r"layer 'keys' has inputs of shape \(4, 6\), in which they cannot be told"):
        model(torch.ones(L, L, D))


class BesideATable(Tables):
    def rows(self, x: Tensor) -> Tensor:
        places = self.places(torch.arange(x.shape[1]).expand(len(x), -1))
        return self.keys(x + self.table + places) + self.keys(places)


def test_what_a_table_is_added_to_or_repeated_for_each_example_is_computed() -> None:
    model = BesideATable()
    adapters = dk.attach(model, r=4, target_modules=["queries", "keys"])
    fill(adapters)
    x, alone = torch.randn(L, L, D), []
    for example in range(L):
        adapters.rank = example + 1
        alone.append(model(x)[example])
    adapters.rank = torch.arange(L) + 1
    torch.testing.assert_close(model(x), torch.stack(alone), rtol=1e-4, atol=1e-4)


class Pools(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(x[torch.arange(len(x)), lengths - 1]) + self.layers[0](x[:, 0])


class Levels(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        levels = [x, 2 * x]
        for i, layer in enumerate(self.layers):
            x = layer(levels[i]) + self.layer(x)
        return x[:, 0]


class Scattered(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        mask = lengths > 2
        out = torch.zeros_like(x).index_copy(0, mask.nonzero()[:, 0], x[mask])
        return self.layer(out)[:, 0] + self.layer(x.flip(1))[:, 0]


class LastWords(OneLayer):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        eos_mask = torch.arange(L).expand(N, L) > 2
        return self.layer(x[eos_mask, :].view(x.size(0), -1, D)[:, -1])


class Switched(OneLayer):
    """Would choose rows, but for a flag of its own."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if not self.picks:
            x = x[lengths.argsort()]
        return self.layer(x)[:, 0]


@pytest.mark.parametrize("kind", [Pools, Levels, Scattered, LastWords, Switched])
def test_other_indices_leave_each_example_its_own_rank(kind: Any) -> None:
    torch.manual_seed(0)
    model = kind()
    adapters = dk.attach(model, r=4, target_modules=["layer", "layers.0", "layers.1"])
    fill(adapters)
    x, lengths, alone = torch.randn(N, L, D), torch.tensor([2, 4, 3]), []
    for example, rank in enumerate([1, 4, 2]):
        adapters.rank = rank
        alone.append(model(x, lengths)[example])
    adapters.rank = torch.tensor([1, 4, 2])
    torch.testing.assert_close(model(x, lengths), torch.stack(alone))


def llava() -> Any:
    vision = transformers.CLIPVisionConfig(**SMALL, image_size=8, patch_size=4)
    text = transformers.LlamaConfig(**SMALL, vocab_size=50, pad_token_id=0)
    torch.manual_seed(0)
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_id=49, vision_feature_layer=-1)
    ).eval()


def images() -> dict[str, Tensor]:
    """The first example has two images of four patches each, the second one none."""
    ids = torch.tensor([[49] * 8 + [5, 6], list(range(7, 17))])
    return {"input_ids": ids, "pixel_values": torch.randn(2, 3, 8, 8)}


@pytest.mark.parametrize("target", ["vision_tower.encoder.layers.0.mlp.fc1", "linear_1"])
def test_layers_that_see_images_of_which_an_example_has_any_number_are_named(target: str) -> None:
    model = llava()
    adapters = dk.attach(model, r=4, target_modules=[target])
    adapters.rank = torch.tensor([1, 4])
    with pytest.raises(ValueError, match=rf"layer 'model\..*{target.rpartition('.')[2]}' has inputs of shape"):
        model(**images())


def test_layers_that_see_the_text_with_the_images_run_at_each_example_s_rank() -> None:
    model = llava()
    adapters = dk.attach(model, r=4, target_modules=r".*language_model.*(q_proj|down_proj)")
    fill(adapters)
    x, alone = images(), []
    for example, rank in enumerate([1, 4]):
        adapters.rank = rank
        alone.append(model(**x).logits[example])
    adapters.rank = torch.tensor([1, 4])
    torch.testing.assert_close(model(**x).logits, torch.stack(alone), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_head_that_may_get_the_masked_words_alone_is_named(sparse: bool) -> None:
    config = transformers.ModernBertConfig(**SMALL, vocab_size=50, pad_token_id=0, sparse_prediction=sparse)
    model = transformers.ModernBertForMaskedLM(config).eval()
    adapters = dk.attach(model, r=4, target_modules=["head.dense", "mlp.Wo"])
    adapters.rank = torch.tensor([1, 4])
    ids = torch.randint(5, 49, (2, 6))
    labels = torch.full((2, 6), -100)
    labels[0, :2] = 7  # as many words as examples, and both of them in the first
    if sparse:
        with pytest.raises(ValueError, match=r"layer 'head\.dense' has inputs of shape"):
            model(input_ids=ids, labels=labels)
    else:
        assert model(input_ids=ids, labels=labels).logits.shape == (2, 6, 50)
