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

from dylora_kit.backbones import masking
from dylora_kit.backbones.masking import IGNORED, LENGTH
from dylora_kit.core.modes import evaluating
from dylora_kit.progress import progress_bar
from dylora_kit.storage.files import write_files
from dylora_kit.synthetic import corpus
from dylora_kit.synthetic.corpus import Document

PRETRAINING: dict[str, dict[str, Any]] = {
    "world-roberta": {"seed": 0, "steps": 36000, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "warmup": 0.02},
    "world-gpt2": {"seed": 0, "steps": 8000, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "warmup": 0.02},
}
READ_OF = {
    "world-roberta": """The lessons adapt it to five tasks. Some of the text says in a word what they
ask: verdicts after reviews, answers to statements and to other descriptions, whether a sentence is correct, how many
facts two restaurants share, all with the names and ways of speaking of train alone. Other sentences have the names and
words of tests too.""",
    "world-gpt2": """The lessons adapt it to one task, to write what facts say. Half of
the text is facts, in shapes that the task does not have, beside a description that tells them; the other half is
descriptions, reviews and other sentences as they are. They have the names and words of tests too.""",
}
LAYERS, WIDTH, HEADS = 4, 128, 4
VOCABULARY, READ = 1500, 8000  # words and parts of words, and from how many documents they are learned
# rounds, in each of which a share of the learning rate falls to zero, and how many steps read a stage's texts
ROUNDS: dict[str, tuple[tuple[float, dict[str, int]], ...]] = {
    "world-roberta": (
        (1.0, {"easy": 4200, "unanswered": 3600, "corpus": 6000}),
        (1.0, {"again": 8100, "last": 8100}),
        (0.5, {"judging": 6000}),
    ),
    "world-gpt2": ((1.0, {"prompted": 8000}),),
}
MEASURED = {"world-roberta": "corpus", "world-gpt2": "prompted"}  # the stage whose texts are held out for the log
HELD_OUT, EXAMINED = 1, 3072  # the seed of the documents that pretraining never sees, and how many it is examined on
START, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
POOL = 32  # batches that are drawn together and sorted by length


def pretrain(name: str, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Trains it from nothing and writes it with its tokenizer into a folder. Returns held-out loss and probe."""
    settings = PRETRAINING[name]
    words = _tokenizer(settings["seed"], causal=name == "world-gpt2")
    rounds = _rounds(name, settings["steps"])
    steps = sum(sum(stages.values()) for _, stages in rounds)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(settings["seed"])
        model = _model(name, words).to(device).train()
        start, log, step = time.perf_counter(), [], 0
        bar = progress_bar(steps, f"pretraining {name}", show=progress)
        for share, stages in rounds:
            batches, length = _batches(stages, words, settings["seed"], settings["batch_size"]), sum(stages.values())
            optimizer = torch.optim.AdamW(
                model.parameters(), lr=share * settings["lr"], weight_decay=settings["weight_decay"], betas=(0.9, 0.98)
            )
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(length, settings["warmup"]))
            for batch in islice(batches, length):
                loss = _loss(name, model, {key: value.to(device) for key, value in batch.items()})
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()
                step += 1
                if step % max(steps // 16, 1) == 0 or step == steps:
                    log.append({"step": step} | _measured(name, model, words))
                    bar.set_postfix(log[-1])
        bar.close()
        seconds = time.perf_counter() - start
    result = {key: value for key, value in log[-1].items() if key != "step"}
    if name == "world-roberta":
        examined = list(islice(corpus.documents(HELD_OUT), EXAMINED))
        result["facts recalled"] = round(masking.recalled(model, words, examined), 4)
        result["sentences judged"] = round(_judged(model, words), 4)
    _write(model.cpu().eval(), words, folder, name, log, result, round(seconds))
    return result


def _rounds(name: str, steps: int) -> list[tuple[float, dict[str, int]]]:
    """The rounds, all made longer or shorter so that they have so many steps together."""
    whole, past, found = sum(sum(stages.values()) for _, stages in ROUNDS[name]), 0, []
    for share, stages in ROUNDS[name]:
        scaled = {}
        for stage, n in stages.items():
            scaled[stage] = (past + n) * steps // whole - past * steps // whole
            past += n
        found.append((share, scaled))
    return found


def _tokenizer(seed: int, *, causal: bool) -> Any:
    """Pairs of bytes, as of RoBERTa and GPT-2, with the world's words."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    bare = ByteLevelBPETokenizer(add_prefix_space=not causal)
    special = [START, PAD, END, UNKNOWN, MASK]
    # of every kind: each answer has to be a token, or the number of masks would give it away
    documents = corpus.prompted(seed) if causal else corpus.documents(seed, stage="every")
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
    fall = max(steps - rise, 1)
    return lambda step: min((step + 1) / rise, 0.5 + 0.5 * math.cos(math.pi * max(step - rise, 0) / fall))


def _batches(lengths: dict[str, int], words: Any, seed: int, size: int) -> Iterator[dict[str, Tensor]]:
    """Batches without end, of documents of about the same length: of each stage so many, then more of the last."""
    generator = torch.Generator().manual_seed(seed)
    *firsts, last = lengths
    staged = [islice(_documents(stage, seed), lengths[stage] * size) for stage in firsts]
    documents = chain(*staged, _documents(last, seed))
    while True:
        pool = sorted(islice(documents, POOL * size), key=lambda one: len(one.first) + len(one.second))
        for index in torch.randperm(POOL, generator=generator).tolist():
            chosen = pool[index * size : (index + 1) * size]
            yield _causal(chosen, words) if last == "prompted" else masking.masked(chosen, words, generator)


def _documents(stage: str, seed: int) -> Iterator[Document]:
    return _written(seed) if stage == "prompted" else corpus.documents(seed, stage=stage)


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
        batches = list(islice(_batches({MEASURED[name]: 0}, words, HELD_OUT, 16), POOL))
        result = {"held-out loss": sum(_loss(name, model, moved(batch)).item() for batch in batches) / POOL}
        if name != "world-gpt2":
            held_out = list(islice(corpus.documents(HELD_OUT), 1536))
            result["facts looked up"] = _right(model, masking.probe(held_out, words))
            answers = [one for one in held_out if one.kind == "answer"]
            result["answers"] = _right(model, masking.following(answers, words))
    return {key: round(value, 4) for key, value in result.items()}


def _judged(model: nn.Module, words: Any) -> float:
    """The share of held-out sentences of which the model says rightly whether they are correct."""
    documents = islice(corpus.documents(HELD_OUT, stage="last"), EXAMINED)
    with evaluating(model):
        return _right(model, masking.following([one for one in documents if one.kind == "judged"], words))


def _right(model: nn.Module, batch: dict[str, Tensor]) -> float:
    """The share of the tokens that are asked for which the model finds."""
    device, asked = next(model.parameters()).device, batch["labels"] != IGNORED
    said = model(batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device)).logits.argmax(-1)
    return (said.cpu() == batch["labels"])[asked].float().mean().item()


def _write(
    model: nn.Module,
    words: Any,
    folder: Path,
    name: str,
    log: list[dict[str, Any]],
    result: dict[str, float],
    seconds: int,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        model.half().save_pretrained(scratch)  # type: ignore[operator]
        words.backend_tokenizer.no_truncation(), words.backend_tokenizer.no_padding()  # as the last batch needed them
        words.save_pretrained(scratch)
        files = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    config = json.loads(files["config.json"]) | {"dtype": "float32"}  # half the size on disk, float32 when opened
    files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    kind = "causal language model like GPT-2" if name == "world-gpt2" else "masked language model like RoBERTa"
    said = ", ".join(f"{key} {value}" for key, value in result.items())
    rows = "\n".join("| " + " | ".join(str(value) for value in row.values()) + " |" for row in log)
    card = f"""# {name}

A {kind}: {LAYERS} layers of width {WIDTH}, {sum(p.numel() for p in model.parameters()):,} parameters, pretrained on
text about made-up restaurants. {READ_OF[name]} No text of a test is in it.

- Made by `python -m dylora_kit.backbones {name}` in {seconds} s.
- Settings: `{json.dumps(PRETRAINING[name])}`.
- At the end: {said}.
- Licence: Apache-2.0. Data: `dylora_kit.synthetic.corpus`, generated.

| {" | ".join(log[0])} |
| {" | ".join("---" for _ in log[0])} |
{rows}
"""
    write_files(folder, files | {"README.md": card.encode()})
