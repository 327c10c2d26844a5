"""python -m dylora_kit nest: a trained LoRA gets all its ranks, from texts without labels."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dylora_kit.commands.base import opened
from dylora_kit.core.rank import check_rank
from dylora_kit.integrations.peft_import import import_peft
from dylora_kit.storage.files import check_new_folder
from dylora_kit.storage.peft_files import read_peft_adapter
from dylora_kit.tasks.own_data import read_texts
from dylora_kit.training.next_token import named_causal
from dylora_kit.training.self_distillation import Nesting, nest

if TYPE_CHECKING:
    from dylora_kit.core.handle import Adapters

EXAMPLE = """examples:
  python -m dylora_kit nest base-model my-lora --texts texts.txt --out nested
  python -m dylora_kit nest base-model my-lora --texts texts.csv --column review --ranks 1 2 --steps 100 --out small"""
KINDS = {"CAUSAL_LM": "AutoModelForCausalLM", "SEQ_CLS": "AutoModelForSequenceClassification"}
HEADS = ("classifier.weight", "score.weight", "classifier.out_proj.weight")  # their rows are the classes


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "nest",
        help="give a trained LoRA all its ranks",
        description="Orders the rows of a trained LoRA, and teaches each lower rank what the model answers at the full "
        "one. It is for LoRAs that write (CAUSAL_LM) or classify (SEQ_CLS). Texts like those that it is for are "
        "enough; labels are not needed. The learning rate with the lowest mean divergence over the ranks is kept, "
        "which can cost the highest ranks a little. OUT is then an adapter of this kit, whose rank you choose when you "
        "run it (dylora_kit.load), and has a folder of PEFT for each of --ranks.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "base", metavar="BASE", help="the model of transformers it was trained on: a folder, or its name"
    )
    command.add_argument("adapter", metavar="ADAPTER", help="a folder of PEFT")
    command.add_argument("--texts", required=True, metavar="FILE", help="one text a line, or a CSV or JSON file")
    command.add_argument("--column", help="of a CSV or JSON file: where its texts are")
    command.add_argument("--encoding", default="utf-8", help="of the file; default utf-8")
    command.add_argument("--out", required=True, metavar="OUT", help="a new folder")
    command.add_argument(
        "--ranks", type=int, nargs="+", metavar="B", help="also write these as folders of PEFT; default 1, 2, 4, …"
    )
    command.add_argument("--steps", type=int, default=200, help="of each training; default 200")
    command.add_argument("--batch-size", type=int, default=8, help="texts in a step; default 8")
    command.add_argument("--max-length", type=int, default=256, help="tokens of a text, at most; default 256")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for, and prints what was done."""
    from transformers import AutoTokenizer, DataCollatorWithPadding

    check_new_folder(arguments.out)
    texts = read_texts(arguments.texts, arguments.column, encoding=arguments.encoding)
    model, adapters = _model(arguments.base, arguments.adapter)
    ranks = sorted({check_rank(b, adapters.r) for b in arguments.ranks or _powers(adapters.r)})
    tokenizer = opened(AutoTokenizer, arguments.base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model.config, "pad_token_id", None) is None:  # a decoder that classifies looks for the last token
        model.config.pad_token_id = tokenizer.pad_token_id
    length = min(arguments.max_length, tokenizer.model_max_length)
    rows = [dict(tokenizer(text, truncation=True, max_length=length)) for text in texts]
    if named_causal(model):
        _check_long_enough(rows, texts, arguments.texts)
    nesting = nest(
        model,
        adapters,
        rows,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        collate=DataCollatorWithPadding(tokenizer),
    )
    out = Path(arguments.out)
    adapters.save(out)
    for b in ranks:
        adapters.export_peft(out / f"rank-{b}", rank=b)
    print("\n".join(_lines(nesting)))
    print(f"written: {out}, and for PEFT {', '.join(f'rank-{b}' for b in ranks)} in it")


def _check_long_enough(rows: Sequence[dict[str, Any]], texts: Sequence[str], file: str) -> None:
    """Raises `ValueError` for a text of one token, after which a causal model has nothing to say."""
    short = [text for row, text in zip(rows, texts, strict=True) if len(row["input_ids"]) < 2]
    if short:
        raise ValueError(
            f"the text {short[0]!r} of {file}, one of {len(short)} such texts, is a single token, after which there is "
            "nothing to learn: leave them out"
        )


def _model(base: str, adapter: str) -> "tuple[Any, Adapters]":
    """The base model, with the head that the adapter was trained with, and the adapter on it.

    Raises `OSError` if there is no such model, `ValueError` if the two do not fit, or if it is not said what kind of
    model it is.
    """
    config, tensors, _ = read_peft_adapter(Path(adapter))
    kind = config.get("task_type")
    if kind not in (*KINDS, None):
        raise ValueError(
            f"{adapter} has the task_type {kind!r}: nest teaches what writes or classifies texts, {' or '.join(KINDS)}"
        )
    classes = [len(tensor) for name, tensor in tensors.items() if name.endswith(HEADS)]
    sizes = {"num_labels": classes[-1]} if classes and kind == "SEQ_CLS" else {}
    model, info = opened(
        _class(kind, base, adapter), base, ignore_mismatched_sizes=True, output_loading_info=True, **sizes
    )
    try:
        adapters = import_peft(model, adapter)
    except ValueError as error:
        if kind is None:
            raise ValueError(
                f"{error}; {adapter} names no task_type, so the model is what {base} says it is: set task_type in "
                f"adapter_config.json to {' or '.join(KINDS)} if it was trained as that"
            ) from error
        raise
    new = {key.rpartition(".")[0] for key in [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]}
    random = [name for name in sorted(new) if not f"{name}.".startswith(tuple(f"{s}." for s in adapters.saved_modules))]
    if random:
        raise ValueError(
            f"{base} has no weights for {random[0]!r}, and {adapter} has none either, so its answers would be chance: "
            "name the model that it was trained on"
        )
    return model, adapters


def _class(kind: str | None, base: str, adapter: str) -> Any:
    """The class of transformers that opens a base for an adapter of a kind."""
    import transformers

    if kind is not None:
        return getattr(transformers, KINDS[kind])
    names = opened(transformers.AutoConfig, base).architectures or []
    if not names or not hasattr(transformers, names[0]):
        raise ValueError(
            f"{adapter} has the task_type {kind!r} and {base} names no architecture, so it is not clear which kind of "
            "model this is: set task_type in adapter_config.json to CAUSAL_LM or SEQ_CLS"
        )
    return getattr(transformers, names[0])


def _powers(r: int) -> list[int]:
    """
    >>> _powers(12)
    [1, 2, 4, 8, 12]
    """
    return sorted({1 << exponent for exponent in range(r.bit_length())} | {r})


def _lines(nesting: Nesting) -> Sequence[str]:
    """How far each rank is from the full one, before and after."""
    frame = nesting.divergences.set_index(["lr", "rank"])["divergence"]
    if nesting.lr == 0:
        first = "no training was better than ordering alone, so the rows are ordered and no more"
    else:
        first = f"learning rate {nesting.lr:g}, chosen on texts held out"
    lines = [first, "rank   divergence from the full rank: ordered → nested"]
    return lines + [f"{rank:>4}   {frame[0.0, rank]:.4f} → {frame[nesting.lr, rank]:.4f}" for rank in frame[0.0].index]
