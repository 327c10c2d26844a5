"""world-roberta and world-gpt2: small language models, pretrained on text of the world.

What a model has to learn here is to look a fact up. So where one text follows from another, the words that tell its
facts are masked far more often than others: they can only be found in the other text.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.evaluate import evaluating
from dylora_kit.files import write_files
from dylora_kit.progress import progress_bar
from dylora_kit.tasks.world import corpus
from dylora_kit.tasks.world.corpus import Document

PRETRAINING: dict[str, dict[str, Any]] = {
    "world-roberta": {"seed": 0, "steps": 12000, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "warmup": 0.02},
    "world-gpt2": {"seed": 0, "steps": 8000, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "warmup": 0.02},
}
LAYERS, WIDTH, HEADS, LENGTH = 4, 128, 4, 128
VOCABULARY, READ = 1500, 8000  # words and parts of words, and from how many documents they are learned
STAGES = {"easy": 0.2, "unanswered": 0.3, "corpus": 0.5}  # shares of the steps that read each stage's texts
# where something follows from the rest of a text, mostly that alone is asked for: much else would hide what to learn
LOOKED_UP, FOLLOWING, MASKED = 0.85, 0.9, 0.15  # share of such texts, and of what is masked in them and in others
HELD_OUT = 1  # the seed of the documents that pretraining never sees
START, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
POOL = 32  # batches that are drawn together and sorted by length
IGNORED = -100


def pretrain(name: str, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Trains it from nothing and writes it with its tokenizer into a folder. Returns held-out loss and probe."""
    settings = PRETRAINING[name]
    words = _tokenizer(settings["seed"], causal=name == "world-gpt2")
    steps, size = settings["steps"], settings["batch_size"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(settings["seed"])
        model = _model(name, words).to(device).train()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"], betas=(0.9, 0.98)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(steps, settings["warmup"]))
        batches = _batches(name, words, settings["seed"], size, steps=steps)
        start, log = time.perf_counter(), []
        bar = progress_bar(steps, f"pretraining {name}", show=progress)
        for step in range(1, steps + 1):
            batch = {key: value.to(device) for key, value in next(batches).items()}
            loss = _loss(name, model, batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()
            if step % max(steps // 16, 1) == 0 or step == steps:
                log.append({"step": step} | _measured(name, model, words))
                bar.set_postfix(log[-1])
        bar.close()
        seconds = time.perf_counter() - start
    result = {key: value for key, value in log[-1].items() if key != "step"}
    _write(model.cpu().eval(), words, folder, name, log, round(seconds))
    return result


def _tokenizer(seed: int, *, causal: bool) -> Any:
    """Pairs of bytes, as of RoBERTa and GPT-2, with the world's words."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    bare = ByteLevelBPETokenizer(add_prefix_space=not causal)
    special = [START, PAD, END, UNKNOWN, MASK]
    documents = corpus.prompted(seed) if causal else corpus.documents(seed)
    read = (f"{one.first} {one.second}" for one in islice(documents, READ))
    bare.train_from_iterator(read, vocab_size=VOCABULARY, min_frequency=2, special_tokens=special, show_progress=False)
    ids = {token: bare.token_to_id(token) for token in special}
    if not causal:
        bare._tokenizer.post_processor = processors.RobertaProcessing(
            (END, ids[END]), (START, ids[START]), trim_offsets=True, add_prefix_space=True
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare._tokenizer, bos_token=START, eos_token=END, cls_token=START, sep_token=END,
        pad_token=PAD, unk_token=UNKNOWN, mask_token=MASK, model_max_length=LENGTH,
    )  # fmt: skip


def _model(name: str, words: Any) -> nn.Module:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        RobertaPreLayerNormConfig,
        RobertaPreLayerNormForMaskedLM,
    )

    common = {
        "vocab_size": len(words),
        "initializer_range": 1 / math.sqrt(WIDTH),
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    if name == "world-gpt2":
        sizes = {"n_positions": LENGTH, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
        return GPT2LMHeadModel(GPT2Config(**common, **sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": LENGTH + words.pad_token_id + 1,
        "type_vocab_size": 1,
    }
    config = RobertaPreLayerNormConfig(**common, **sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return RobertaPreLayerNormForMaskedLM(config)


def _cosine(steps: int, warmup: float) -> Any:
    rise = max(round(warmup * steps), 1)
    return lambda step: min((step + 1) / rise, 0.5 + 0.5 * math.cos(math.pi * max(step - rise, 0) / (steps - rise)))


def _batches(name: str, words: Any, seed: int, size: int, *, steps: int = 0) -> Iterator[dict[str, Tensor]]:
    """Batches without end, of documents of about the same length; in so many steps all stages, then the last."""
    generator = torch.Generator().manual_seed(seed)
    causal = name == "world-gpt2"
    limits = {key: None if key == "corpus" else round(part * steps) * size for key, part in STAGES.items()}
    staged = (islice(corpus.documents(seed, stage=key), limit) for key, limit in limits.items())
    documents = _written(seed) if causal else chain.from_iterable(staged)
    while True:
        pool = sorted(islice(documents, POOL * size), key=lambda one: len(one.first) + len(one.second))
        for index in torch.randperm(POOL, generator=generator).tolist():
            chosen = pool[index * size : (index + 1) * size]
            yield _causal(chosen, words) if causal else _masked(chosen, words, generator)


def _written(seed: int) -> Iterator[Document]:
    """What a causal model reads: facts and the text that tells them, and the world's texts as they are."""
    plain = corpus.documents(seed, stage="unanswered")
    for prompted in corpus.prompted(seed):
        yield prompted
        yield next(plain)


def _causal(documents: list[Document], words: Any) -> dict[str, Tensor]:
    texts = [f"{one.first}\n{one.second}".strip() + END for one in documents]
    batch = words(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def _masked(documents: list[Document], words: Any, generator: torch.Generator) -> dict[str, Tensor]:
    ids, told = _encoded(documents, words)
    looked_up = (told > 0).any(1) & (torch.rand(len(ids), generator=generator) < LOOKED_UP)
    share = torch.where(looked_up[:, None], FOLLOWING * (told > 0), MASKED)
    return _asked(ids, torch.rand(ids.shape, generator=generator) < share, words)


def _probe(documents: list[Document], words: Any) -> dict[str, Tensor]:
    """In each second text, the first fact that is told in one word is masked, if the first text has that word too."""
    chosen = {}
    for index, one in enumerate(documents):
        spans = [one.second[start:stop].lower() for start, stop in one.spans]
        known = [
            number for number, word in enumerate(spans, 1) if " " not in word and word in one.first.lower().split()
        ]
        if one.kind == "pair" and known:
            chosen[index] = known[0]
    ids, told = _encoded([documents[index] for index in chosen], words)
    return _asked(ids, told == torch.tensor(list(chosen.values()))[:, None], words)


def _encoded(documents: list[Document], words: Any) -> tuple[Tensor, Tensor]:
    """Token ids, and which of the last text's spans each token is of, counted from 1; 0 for none. (n, tokens)"""
    pairs = [(one.first, one.second) if one.second else (one.first,) for one in documents]
    rows = [words(*pair, truncation=True, max_length=LENGTH, return_offsets_mapping=True) for pair in pairs]
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), words.pad_token_id)
    told = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, (row, document) in enumerate(zip(rows, documents, strict=True)):
        ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        for place, ((start, end), part) in enumerate(zip(row["offset_mapping"], row.sequence_ids(), strict=True)):
            for number, (begin, stop) in enumerate(document.spans, 1):
                if part == bool(document.second) and start < stop and end > begin:
                    told[index, place] = number
    return ids, told


def _asked(ids: Tensor, masked: Tensor, words: Any) -> dict[str, Tensor]:
    """The batch in which a model is asked for the masked tokens."""
    masked = masked & ~torch.isin(ids, torch.tensor(words.all_special_ids))
    return {
        "input_ids": ids.masked_fill(masked, words.mask_token_id),
        "attention_mask": (ids != words.pad_token_id).long(),
        "labels": ids.masked_fill(~masked, IGNORED),
    }


def _loss(name: str, model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy; of a masked model the mean over documents, in each over the tokens that it is asked for.

    So a review, of which one word is asked for, counts as much as ten facts that are looked up.
    """
    if name == "world-gpt2":
        return model(**batch).loss
    asked = batch["labels"] != IGNORED
    hidden = model.base_model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    losses = nn.functional.cross_entropy(model.lm_head(hidden[asked]), batch["labels"][asked], reduction="none")
    weights = 1 / asked.sum(1)[asked.nonzero()[:, 0]]
    return (weights * losses).sum() / weights.sum()


def _measured(name: str, model: nn.Module, words: Any) -> dict[str, float]:
    """Loss on documents that pretraining never sees; of a masked model also which facts and answers it finds."""
    device = next(model.parameters()).device

    def moved(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value.to(device) for key, value in batch.items()}

    with evaluating(model):
        batches = list(islice(_batches(name, words, HELD_OUT, 16), POOL))
        result = {"held-out loss": sum(_loss(name, model, moved(batch)).item() for batch in batches) / POOL}
        if name != "world-gpt2":
            held_out = list(islice(corpus.documents(HELD_OUT), 1536))
            ids, told = _encoded([one for one in held_out if one.kind == "answer"], words)
            asked = {"facts looked up": _probe(held_out, words), "answers": _asked(ids, told > 0, words)}
            for what, batch in asked.items():
                batch = moved(batch)
                right = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
                result[what] = (right == batch["labels"])[batch["labels"] != IGNORED].float().mean().item()
    return {key: round(value, 4) for key, value in result.items()}


def _write(model: nn.Module, words: Any, folder: Path, name: str, log: list[dict[str, Any]], seconds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        model.half().save_pretrained(scratch)  # type: ignore[operator]
        words.save_pretrained(scratch)
        files = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    config = json.loads(files["config.json"]) | {"dtype": "float32"}  # half the size on disk, float32 when opened
    files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    kind = "causal language model like GPT-2" if name == "world-gpt2" else "masked language model like RoBERTa"
    rows = "\n".join("| " + " | ".join(str(value) for value in row.values()) + " |" for row in log)
    card = f"""# {name}

A {kind}: {LAYERS} layers of width {WIDTH}, {sum(p.numel() for p in model.parameters()):,} parameters, pretrained on
text about made-up restaurants. The lessons adapt it to six tasks. Some of the text says in a word what three of them
ask: verdicts after reviews, and answers to statements and to other descriptions, with the names and ways of speaking of
train alone. Correct sentences have the names and words of tests too. No text of a test is in it.

- Made by `python -m dylora_kit.backbones {name}` in {seconds} s.
- Settings: `{json.dumps(PRETRAINING[name])}`.
- Licence: Apache-2.0. Data: `dylora_kit.tasks.world.corpus`, generated.

| {" | ".join(log[0])} |
| {" | ".join("---" for _ in log[0])} |
{rows}
"""
    write_files(folder, files | {"README.md": card.encode()})
