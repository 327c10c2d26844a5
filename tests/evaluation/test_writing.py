"""What a causal model writes after prompts: alone or in a batch, at one rank or at one for each prompt."""

from typing import Any

import pytest
import torch
from architectures import build
from models import fill
from torch import Tensor

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.evaluation.writing import prompt_ids, write

PROMPTS = ["The Red Fox is", "Dogs", "There is a terrace at the Merry Lantern, and", "On Sundays the pub"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return backbones.tokenizer("world-gpt2")


@pytest.fixture
def pair() -> tuple[Any, dk.Adapters]:
    model = backbones.load("world-gpt2")
    adapters = dk.attach(model, r=4, target_modules="attention")
    fill(adapters)
    return model, adapters


def test_a_text_is_that_of_the_most_probable_tokens(pair: Any, tokenizer: Any) -> None:
    model, _ = pair
    for prompt, text in zip(PROMPTS, write(model, tokenizer, PROMPTS, max_new_tokens=6), strict=True):
        start = ids = torch.tensor(prompt_ids(tokenizer, [prompt]))
        with torch.no_grad():
            for _ in range(6):
                best = model.eval()(input_ids=ids).logits[:, -1:].argmax(-1)
                if best.item() == tokenizer.eos_token_id:
                    break
                ids = torch.cat([ids, best], 1)
        assert text == tokenizer.decode(ids[0, start.shape[1] :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_prompt_is_continued_at_its_own_rank(pair: Any, tokenizer: Any, beams: int, batch_size: int) -> None:
    model, adapters = pair
    options = {"max_new_tokens": 8, "num_beams": beams}
    alone = []
    for prompt, rank in zip(PROMPTS, [3, 1, 4, 1], strict=True):
        with adapters.at(rank):
            alone += write(model, tokenizer, [prompt], **options)
    adapters.rank = 2
    for ranks in ([3, 1, 4, 1], torch.tensor([3, 1, 4, 1])):
        assert write(model, tokenizer, PROMPTS, ranks=ranks, batch_size=batch_size, **options) == alone
    assert adapters.rank == 2


def test_all_ranks_of_one_prompt_are_written_side_by_side(pair: Any, tokenizer: Any) -> None:
    model, adapters = pair
    texts = write(model, tokenizer, PROMPTS[:1] * 4, ranks=range(1, 5), max_new_tokens=12)
    assert len(set(texts)) > 1
    for rank, text in enumerate(texts, 1):
        with adapters.at(rank):
            assert write(model, tokenizer, PROMPTS[:1], max_new_tokens=12) == [text]


def test_the_tokenizer_and_the_mode_are_left_as_they_were(pair: Any) -> None:
    model, _ = pair
    tokenizer = backbones.tokenizer("world-gpt2")
    expected = write(model, tokenizer, PROMPTS, max_new_tokens=6)
    tokenizer.padding_side, tokenizer.pad_token = "right", None
    model.train()
    assert write(model, tokenizer, PROMPTS, max_new_tokens=6) == expected  # it fills up with its end token
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", None)
    assert all(module.training for module in model.modules())


def test_no_tokens_are_said_twice_but_the_prompt_may_be_repeated(pair: Any, tokenizer: Any) -> None:
    class Copying(type(pair[0])):  # type: ignore[misc]
        """Says the prompt's tokens over and over."""

        def forward(self, **inputs: Any) -> Any:
            output = super().forward(**inputs)
            output.logits = torch.zeros_like(output.logits)
            for row in output.logits:
                row[..., wanted[len(said) % len(wanted)]] = 9.0
            said.append(1)
            return output

    model = Copying(pair[0].config)
    prompt = "the Red Fox"
    (wanted,), said = prompt_ids(tokenizer, [prompt]), list[int]()
    assert write(model, tokenizer, [prompt], max_new_tokens=len(wanted) * 2) == ["the Red Fox" * 2]
    said.clear()
    (text,) = write(model, tokenizer, [prompt], max_new_tokens=len(wanted) * 2, no_repeat_ngram_size=len(wanted))
    assert text.startswith("the Red Fox") and text != "the Red Fox" * 2


def test_a_larger_length_penalty_prefers_longer_texts(tokenizer: Any) -> None:
    model = backbones.load("world-gpt2")
    short, long = (
        write(model, tokenizer, PROMPTS, max_new_tokens=30, num_beams=4, length_penalty=power) for power in (-4.0, 4.0)
    )
    assert sum(map(len, short)) < sum(map(len, long))


class Listener:
    def __init__(self) -> None:
        self.tokens: list[Tensor] = []

    def put(self, ids: Tensor) -> None:
        self.tokens.append(ids)

    def end(self) -> None: ...


def test_a_streamer_gets_each_token_of_all_rows(pair: Any, tokenizer: Any) -> None:
    listener = Listener()
    texts = write(pair[0], tokenizer, PROMPTS, ranks=[1, 2, 3, 4], max_new_tokens=5, streamer=listener)
    prompt, *new = listener.tokens
    assert len(prompt) == 4 and 1 <= len(new) <= 5 and all(each.shape == (4,) for each in new)
    written = tokenizer.batch_decode(torch.stack(new, 1), skip_special_tokens=True)
    assert [text.strip() for text in written] == texts


@pytest.mark.parametrize("name", ["roberta", "t5"])
def test_a_model_that_does_not_go_on_with_a_text_is_refused(name: str, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"does not go on with a text: pass a causal language model"):
        write(build(name), tokenizer, PROMPTS, max_new_tokens=2)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (["The", "pub " * 60], {"max_new_tokens": 90}, r"prompt 2 \('pub pub .*…'\) has \d+ tokens; with 90 new"),
        (["The", ""], {"max_new_tokens": 5}, "prompt 2 is empty"),
        (["The"], {"max_new_tokens": 0}, "max_new_tokens must be at least 1: got 0"),
        (["The"], {"max_new_tokens": 5, "batch_size": 0}, "batch_size must be at least 1"),
        (["The"], {"max_new_tokens": 5, "ranks": [1, 2]}, "2 ranks for 1 prompts"),
        (["The"], {"max_new_tokens": 5, "ranks": [5]}, "rank 5 is out of range: expected 1 to 4"),
    ],
)
def test_what_does_not_fit_is_refused(pair: Any, tokenizer: Any, prompts: Any, options: Any, message: str) -> None:
    model, adapters = pair
    adapters.rank = 3
    with pytest.raises(ValueError, match=message):
        write(model, tokenizer, prompts, **options)
    assert adapters.rank == 3


def test_ranks_need_adapters(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="this model has no adapters"):
        write(backbones.load("world-gpt2"), tokenizer, ["The"], max_new_tokens=2, ranks=[1])


def test_no_prompts_give_no_texts(pair: Any, tokenizer: Any) -> None:
    assert write(pair[0], tokenizer, [], max_new_tokens=2) == []
