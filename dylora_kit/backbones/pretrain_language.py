"""world-roberta and world-gpt2: small language models, pretrained on text of the world.

The masked model is to learn to look a fact up in another text. So where one text follows from another, the words that
tell facts are masked far more often than others: see `masking`.
"""

import math
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.backbones import language_files, masking
from dylora_kit.backbones.language_files import HEADS, LAYERS, WIDTH
from dylora_kit.backbones.masking import IGNORED, LENGTH
from dylora_kit.core.modes import evaluating
from dylora_kit.progress import progress_bar
from dylora_kit.synthetic import corpus
from dylora_kit.synthetic.document_kinds import Document

PRETRAINING: dict[str, dict[str, Any]] = {
    "world-roberta": {"seed": 0, "steps": 36000, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "warmup": 0.02},
    "world-gpt2": {"seed": 0, "steps": 8000, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "warmup": 0.02},
}
VOCABULARY = 1500  # words and parts of words
READ = 8000  # documents that they are learned from
# in each round the learning rate starts at a share of the setting and falls to zero; its stages have so many steps
ROUNDS: dict[str, tuple[tuple[float, dict[str, int]], ...]] = {
    "world-roberta": (
        (1.0, {"easy": 4200, "unanswered": 3600, "corpus": 6000}),
        (1.0, {"again": 8100, "last": 8100}),
        (0.5, {"judging": 6000}),
    ),
    "world-gpt2": ((1.0, {"prompted": 8000}),),
}
MEASURED = {"world-roberta": "corpus", "world-gpt2": "prompted"}  # the stage whose texts are held out for the log
HELD_OUT = 1  # the seed of documents that pretraining never sees
EXAMINED = 3072  # how many of them the trained model is examined on
START, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
POOL = 32  # batches that are drawn together, their documents sorted by length


def pretrain(name: str, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Trains a language model from random weights and writes it with its tokenizer into a folder.

    Returns its loss on held-out documents and, of the masked model, the shares of facts and answers that it finds.
    """
    settings = PRETRAINING[name]
    tokenizer = _tokenizer(settings["seed"], causal=name == "world-gpt2")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(settings["seed"])
        model = _model(name, tokenizer).to(device).train()
        start = time.perf_counter()
        log = _train(name, model, tokenizer, progress=progress)
        seconds = round(time.perf_counter() - start)
    result = {key: value for key, value in log[-1].items() if key != "step"}
    if name == "world-roberta":
        examined = list(islice(corpus.documents(HELD_OUT), EXAMINED))
        result["facts recalled"] = round(masking.recalled(model, tokenizer, examined), 4)
        result["sentences judged"] = round(_judged(model, tokenizer), 4)
    card = language_files.model_card(name, model, settings, log, result, seconds)
    language_files.write(folder, model.cpu().eval(), tokenizer, card)
    return result


def _train(name: str, model: nn.Module, tokenizer: Any, *, progress: bool) -> list[dict[str, Any]]:
    """Trains a model through all rounds. Returns what was measured at about 16 steps, the last among them."""
    settings, log, step = PRETRAINING[name], list[dict[str, Any]](), 0
    steps, device = settings["steps"], next(model.parameters()).device
    bar = progress_bar(steps, f"pretraining {name}", show=progress)
    for share, stages in _rounds(name, steps):
        length = sum(stages.values())
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=share * settings["lr"], weight_decay=settings["weight_decay"], betas=(0.9, 0.98)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(length, settings["warmup"]))
        for batch in islice(_batches(stages, tokenizer, settings["seed"], settings["batch_size"]), length):
            loss = _loss(name, model, {key: value.to(device) for key, value in batch.items()})
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()
            step += 1
            if step % max(steps // 16, 1) == 0 or step == steps:
                log.append({"step": step} | _measured(name, model, tokenizer))
                bar.set_postfix(log[-1])
    bar.close()
    return log


def _rounds(name: str, steps: int) -> list[tuple[float, dict[str, int]]]:
    """The rounds of `ROUNDS`, made longer or shorter so that they have `steps` steps together."""
    whole, past, rounds = sum(sum(stages.values()) for _, stages in ROUNDS[name]), 0, []
    for share, stages in ROUNDS[name]:
        scaled = {}
        for stage, length in stages.items():
            scaled[stage] = (past + length) * steps // whole - past * steps // whole
            past += length
        rounds.append((share, scaled))
    return rounds


def _tokenizer(seed: int, *, causal: bool) -> Any:
    """A byte-level BPE tokenizer, as of RoBERTa and GPT-2, learned from the world's text."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    bare = ByteLevelBPETokenizer(add_prefix_space=not causal)
    special = [START, PAD, END, UNKNOWN, MASK]
    # from documents of every kind: each answer has to be a single token, or the number of masks would give it away
    documents = corpus.prompted(seed) if causal else corpus.documents(seed, stage="every")
    texts = (f"{document.first} {document.second}" for document in islice(documents, READ))
    bare.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=2, special_tokens=special, show_progress=False)
    ids = {token: bare.token_to_id(token) for token in special}
    if not causal:
        bare._tokenizer.post_processor = processors.RobertaProcessing(
            (END, ids[END]), (START, ids[START]), trim_offsets=True, add_prefix_space=True
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare._tokenizer, bos_token=START, eos_token=END, cls_token=START, sep_token=END,
        pad_token=PAD, unk_token=UNKNOWN, mask_token=MASK, model_max_length=LENGTH,
    )  # fmt: skip


def _model(name: str, tokenizer: Any) -> nn.Module:
    """A model with random weights."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        RobertaPreLayerNormConfig,
        RobertaPreLayerNormForMaskedLM,
    )

    common = {
        "vocab_size": len(tokenizer),
        "initializer_range": 1 / math.sqrt(WIDTH),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if name == "world-gpt2":
        sizes = {"n_positions": LENGTH, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
        return GPT2LMHeadModel(GPT2Config(**common, **sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": LENGTH + tokenizer.pad_token_id + 1,
        "type_vocab_size": 1,
    }
    config = RobertaPreLayerNormConfig(**common, **sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return RobertaPreLayerNormForMaskedLM(config)


def _cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The share of the learning rate at a step: rises over a share `warmup` of the steps, then falls to zero."""
    rise = max(round(warmup * steps), 1)
    fall = max(steps - rise, 1)
    return lambda step: min((step + 1) / rise, 0.5 + 0.5 * math.cos(math.pi * max(step - rise, 0) / fall))


def _batches(lengths: dict[str, int], tokenizer: Any, seed: int, size: int) -> Iterator[dict[str, Tensor]]:
    """Batches without end, each of `size` documents of about the same length.

    `lengths` says how many batches there are of each stage; then more of the last stage follow.
    """
    generator = torch.Generator().manual_seed(seed)
    *firsts, last = lengths
    staged = [islice(_documents(stage, seed), lengths[stage] * size) for stage in firsts]
    documents = chain(*staged, _documents(last, seed))
    while True:
        pool = sorted(islice(documents, POOL * size), key=lambda document: len(document.first) + len(document.second))
        for index in torch.randperm(POOL, generator=generator).tolist():
            chosen = pool[index * size : (index + 1) * size]
            yield _causal(chosen, tokenizer) if last == "prompted" else masking.masked(chosen, tokenizer, generator)


def _documents(stage: str, seed: int) -> Iterator[Document]:
    return _written(seed) if stage == "prompted" else corpus.documents(seed, stage=stage)


def _written(seed: int) -> Iterator[Document]:
    """The documents for a causal model: prompted and unprompted ones by turns."""
    plain = corpus.documents(seed, stage="unanswered")
    for prompted in corpus.prompted(seed):
        yield prompted
        yield next(plain)


def _causal(documents: list[Document], tokenizer: Any) -> dict[str, Tensor]:
    """A batch for a causal model: each text and an end mark, with labels on all tokens but padding."""
    texts = [f"{document.first}\n{document.second}".strip() + END for document in documents]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def _loss(name: str, model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy. Of a masked model it is the mean over documents of the mean over the tokens that are asked for.

    So a review with a single masked word counts as much as a text with ten masked facts.
    """
    if name == "world-gpt2":
        return model(**batch).loss
    asked = batch["labels"] != IGNORED
    hidden = model.base_model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    losses = nn.functional.cross_entropy(model.lm_head(hidden[asked]), batch["labels"][asked], reduction="none")
    weights = 1 / asked.sum(1)[asked.nonzero()[:, 0]]
    return (weights * losses).sum() / weights.sum()


def _measured(name: str, model: nn.Module, tokenizer: Any) -> dict[str, float]:
    """The loss on held-out documents; of a masked model also the shares of facts and answers that it finds."""
    device = next(model.parameters()).device

    def moved(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value.to(device) for key, value in batch.items()}

    with evaluating(model):
        batches = list(islice(_batches({MEASURED[name]: 0}, tokenizer, HELD_OUT, 16), POOL))
        result = {"held-out loss": sum(_loss(name, model, moved(batch)).item() for batch in batches) / POOL}
        if name != "world-gpt2":
            held_out = list(islice(corpus.documents(HELD_OUT), 1536))
            result["facts looked up"] = _right(model, masking.probe(held_out, tokenizer))
            answers = [document for document in held_out if document.kind == "answer"]
            result["answers"] = _right(model, masking.following(answers, tokenizer))
    return {key: round(value, 4) for key, value in result.items()}


def _judged(model: nn.Module, tokenizer: Any) -> float:
    """The share of held-out sentences of which the model says rightly whether they are correct."""
    documents = islice(corpus.documents(HELD_OUT, stage="last"), EXAMINED)
    judged = [document for document in documents if document.kind == "judged"]
    with evaluating(model):
        return _right(model, masking.following(judged, tokenizer))


def _right(model: nn.Module, batch: dict[str, Tensor]) -> float:
    """The share of the tokens that are asked for that the model thinks most probable."""
    device, asked = next(model.parameters()).device, batch["labels"] != IGNORED
    logits = model(batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device)).logits
    return (logits.argmax(-1).cpu() == batch["labels"])[asked].float().mean().item()
