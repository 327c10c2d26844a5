"""What a causal model writes after prompts, by transformers' `generate`, at one rank or at one for each prompt."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.handle import handle_of
from dylora_kit.core.modes import evaluating


def write(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = 100,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    ranks: Sequence[int] | Tensor | None = None,
    streamer: Any = None,
) -> list[str]:
    """The texts with which a causal model goes on after prompts, without spaces around them: greedy, or by beams.

    Nothing is drawn, so the same call gives the same texts. Mode and rank of the model are afterwards what they were,
    and the tokenizer is not changed: prompts are padded on the left with its end token, which is not attended to.

    Arguments:
        model: with or without adapters. It runs at its active rank unless `ranks` are given.
        max_new_tokens: a text ends at the tokenizer's end token, or after so many tokens.
        batch_size: how many prompts are continued together.
        num_beams: 1 takes the most probable token each time; more search with so many beams.
        length_penalty: the power of a text's length by which its log-probability is divided, when beams are compared.
        no_repeat_ngram_size: a text does not say so many tokens in a row twice. What the prompt says may be repeated,
            as in the experiments of LoRA's authors. 0 allows everything.
        ranks: one rank for each prompt, of adapters on the model. For a prompt at every rank, give it as often.
        streamer: as for `generate`; `put` gets the ids of the prompts (n, tokens) first, and then each new one (n,).
            Only without beams.

    Raises `ValueError` for a model that cannot generate, a prompt that is empty or too long for it, and ranks that do
    not fit.

    >>> from transformers import AutoTokenizer
    >>> from dylora_kit import backbones
    >>> model, tokenizer = backbones.load("world-gpt2"), backbones.tokenizer("world-gpt2")
    >>> len(write(model, tokenizer, ["The Red Fox is", "The pub"], max_new_tokens=5))
    2
    """
    _check_generates(model)
    ids = prompt_ids(tokenizer, prompts)
    _check_lengths(model, prompts, ids, max_new_tokens)
    if ranks is not None and len(ranks) != len(prompts):
        raise ValueError(f"{len(ranks)} ranks for {len(prompts)} prompts: give one rank for each prompt")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1: got {batch_size}")
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False, "num_beams": num_beams,
                               "pad_token_id": filler_of(tokenizer), "eos_token_id": tokenizer.eos_token_id,
                               "use_cache": True, "streamer": streamer}  # fmt: skip
    if num_beams > 1:
        options["length_penalty"] = length_penalty
    per_prompt = None if ranks is None else torch.as_tensor(ranks)
    handle, texts = None if ranks is None else handle_of(model), list[str]()
    with evaluating(model), nullcontext() if handle is None else handle.at(handle.rank):
        for start in range(0, len(prompts), batch_size):
            part = slice(start, start + batch_size)
            if handle is not None and per_prompt is not None:
                handle.rank = per_prompt[part]
            texts += _continued(model, tokenizer, ids[part], no_repeat_ngram_size, options)
    return texts


def prompt_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """The token ids of prompts: with the token that begins a text, if the tokenizer puts one there, and no other mark.

    A training on prompts has to begin them in the same way.

    >>> from dylora_kit import backbones
    >>> prompt_ids(backbones.tokenizer("world-gpt2"), ["The pub", "The"])
    [[56, 262, 509], [56, 262]]
    """
    start: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if tokenizer("a")["input_ids"][:1] != start:
        start = []
    ids: list[list[int]] = tokenizer(list(prompts), add_special_tokens=False)["input_ids"] if len(prompts) else []
    return [each if start and each[:1] == start else [*start, *each] for each in ids]


def filler_of(tokenizer: Any) -> int:
    """The id that fills up short texts: that of the end token, or of the pad token if there is none.

    Raises `ValueError` for a tokenizer that has neither.
    """
    known = [token for token in (tokenizer.eos_token_id, tokenizer.pad_token_id) if token is not None]
    if not known:
        raise ValueError("the tokenizer has no end token and no pad token: set tokenizer.eos_token to the model's")
    return int(known[0])


def context_of(model: nn.Module) -> int | None:
    """How many tokens a model can see at most, prompt and text together; None where its configuration does not say."""
    config: Any = getattr(model, "config", None)
    return getattr(config, "max_position_embeddings", None)


def _continued(
    model: nn.Module, tokenizer: Any, ids: list[list[int]], no_repeat_ngram_size: int, options: dict[str, Any]
) -> list[str]:
    """The texts of one batch."""
    device, length = next(model.parameters()).device, max(map(len, ids))
    fillers = [[options["pad_token_id"]] * (length - len(each)) for each in ids]
    padded = torch.tensor([[*filler, *each] for filler, each in zip(fillers, ids, strict=True)], device=device)
    mask = torch.tensor([[0] * len(filler) + [1] * len(each) for filler, each in zip(fillers, ids, strict=True)])
    if no_repeat_ngram_size:
        options = options | {"logits_processor": [_no_repetition(no_repeat_ngram_size, length)]}
    generate: Any = model.generate
    generated = generate(input_ids=padded, attention_mask=mask.to(device), **options)
    texts = tokenizer.batch_decode(generated[:, length:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _no_repetition(size: int, prompt: int) -> Any:
    """A processor of logits that forbids what would say `size` tokens in a row twice after `prompt` tokens."""
    from transformers import NoRepeatNGramLogitsProcessor

    processor = NoRepeatNGramLogitsProcessor(size)
    return lambda ids, logits: processor(ids[:, prompt:], logits)


def _check_generates(model: nn.Module) -> None:
    generates: Any = getattr(model, "can_generate", lambda: hasattr(model, "generate"))
    config: Any = getattr(model, "config", None)
    if not generates() or getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"a {type(model).__name__} does not go on with a text: pass a causal language model, such as one that "
            "transformers' AutoModelForCausalLM loads"
        )


def _check_lengths(model: nn.Module, prompts: Sequence[str], ids: list[list[int]], max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1: got {max_new_tokens}")
    limit = context_of(model)
    for number, (prompt, tokens) in enumerate(zip(prompts, ids, strict=True), 1):
        if not prompt or not tokens:
            raise ValueError(f"prompt {number} is empty: a model needs at least one token to go on from")
        if limit is not None and len(tokens) + max_new_tokens > limit:
            shown = prompt if len(prompt) <= 60 else f"{prompt[:57]}…"
            raise ValueError(
                f"prompt {number} ({shown!r}) has {len(tokens)} tokens; with {max_new_tokens} new ones that is more "
                f"than the {limit} that the model can see: shorten it, or lower max_new_tokens"
            )
