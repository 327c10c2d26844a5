"""One rank for each example while a text is generated: beams have it, and other changes of the batch are refused."""

from typing import Any

import pytest
import torch
import transformers
from architectures import build
from models import fill
from torch import Tensor, nn

import dylora_kit as dk

LENGTH = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}


def tokens(n: int) -> Tensor:
    return torch.randint(5, 50, (n, 5), generator=torch.Generator().manual_seed(n))


def adapted(model: Any, targets: Any = "attention", ranks: tuple[int, ...] = (1, 4, 2)) -> tuple[Any, dk.Adapters]:
    adapters = dk.attach(model.eval(), r=4, target_modules=targets)
    fill(adapters)
    adapters.rank = torch.tensor(ranks)
    return model, adapters


@pytest.mark.parametrize("given", ["to the call", "in a config", "in the model's config"])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_beams_may_be_asked_for_anywhere(name: str, given: str) -> None:
    model, adapters = adapted(build(name))
    options: dict[str, Any] = LENGTH | {"num_beams": 2}
    if given == "in a config":
        options = {"generation_config": transformers.GenerationConfig(**options)}
    elif given == "in the model's config":
        model.generation_config.num_beams, options = 2, LENGTH
    ids, alone = tokens(3), []
    together = model.generate(input_ids=ids, **options)
    for example, rank in enumerate([1, 4, 2]):
        adapters.rank = rank
        alone.append(model.generate(input_ids=ids[example : example + 1], **options))
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("how", ["by name", "as inputs", "first", "encoded"])
def test_there_must_be_a_prompt_for_each_rank(how: str, beams: int, n: int) -> None:
    model, _ = adapted(build("t5"))
    ids, encoded = tokens(n), torch.zeros(n, 5, 32)
    outputs = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=encoded)
    args = (ids,) if how == "first" else ()
    given = {"by name": {"input_ids": ids}, "as inputs": {"inputs": ids}, "first": {}}.get(
        how, {"encoder_outputs": outputs}
    )
    with pytest.raises(ValueError, match=f"names 3 examples, but the batch holds {n}"):
        model.generate(*args, **given, **LENGTH, num_beams=beams)


def test_without_a_prompt_there_is_one_example() -> None:
    model, _ = adapted(build("llama"))
    with pytest.raises(ValueError, match="names 3 examples, but the batch holds 1"):
        model.generate(**LENGTH, num_beams=3)


class Guided(nn.Module):
    """Its own `generate` puts examples without a prompt behind those with one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def generate(self, x: Tensor, guided: bool = True) -> Tensor:
        if not guided:
            return self(x)
        with_prompt, without = self(torch.cat([x, torch.ones_like(x)])).chunk(2)
        return without + 3 * (with_prompt - without)


def test_a_generate_of_the_model_s_own_may_not_change_the_batch() -> None:
    model, adapters = adapted(Guided(), ["layer"])
    x = torch.randn(3, 5, 4)
    with pytest.raises(ValueError, match="names 3 examples, but the batch holds 6"):
        model.generate(x)
    together, alone = model.generate(x, guided=False), []
    for example, rank in enumerate([1, 4, 2]):
        adapters.rank = rank
        alone.append(model.generate(x, guided=False)[example])
    torch.testing.assert_close(together, torch.stack(alone))


def whisper() -> Any:
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=60, num_mel_bins=4, max_source_positions=20,
        max_target_positions=40, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config.update(is_multilingual=False, suppress_tokens=[], begin_suppress_tokens=[])
    return model


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], r".*decoder.*v_proj", r".*encoder\..*v_proj"])
def test_whisper_has_a_generate_of_its_own_and_no_beams(targets: Any) -> None:
    model, adapters = adapted(whisper(), targets)
    x: dict[str, Any] = {"input_features": torch.randn(3, 4, 40)} | LENGTH
    together, alone = model.generate(**x), []
    with pytest.raises(ValueError, match=r"names 3 examples, but the batch holds 6.*as many throughout the call"):
        model.generate(**x, num_beams=2)
    assert torch.equal(model.generate(**x), together)  # nothing is left of the error
    for example, rank in enumerate([1, 4, 2]):
        adapters.rank = rank
        alone.append(model.generate(**x)[example])
    assert torch.equal(together, torch.stack(alone))


def test_an_error_in_a_call_leaves_nothing_for_the_next() -> None:
    model, _ = adapted(build("llama"))

    def fail(*_: Any) -> list[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate(input_ids=tokens(3), **LENGTH, num_beams=2, prefix_allowed_tokens_fn=fail)
    with pytest.raises(ValueError, match="names 3 examples, but the batch holds 6"):
        model(input_ids=tokens(6))
