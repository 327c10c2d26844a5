"""The files of an embedded language model: weights, tokenizer and model card."""

import json
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from dylora_kit.storage.files import write_files

LAYERS, WIDTH, HEADS = 4, 128, 4
READ_OF = {
    "world-roberta": """The lessons adapt it to five tasks. Some of the text says in a word what they
ask: verdicts after reviews, answers to statements and to other descriptions, whether a sentence is correct, how many
facts two restaurants share, all with the names and ways of speaking of train alone. Other sentences have the names and
words of tests too.""",
    "world-gpt2": """The lessons adapt it to one task, to write what facts say. Half of
the text is facts, in shapes that the task does not have, beside a description that tells them; the other half is
descriptions, reviews and other sentences as they are. They have the names and words of tests too.""",
}


def model_card(
    name: str,
    model: nn.Module,
    settings: dict[str, Any],
    log: list[dict[str, Any]],
    result: dict[str, float],
    seconds: int,
) -> str:
    """The model card, in Markdown: how the model was made, and what was measured on the way and at the end."""
    kind = "causal language model like GPT-2" if name == "world-gpt2" else "masked language model like RoBERTa"
    numbers = ", ".join(f"{key} {value}" for key, value in result.items())
    rows = "\n".join("| " + " | ".join(str(value) for value in row.values()) + " |" for row in log)
    return f"""# {name}

A {kind}: {LAYERS} layers of width {WIDTH}, {sum(p.numel() for p in model.parameters()):,} parameters, pretrained on
text about made-up restaurants. {READ_OF[name]} No text of a test is in it.

- Made by `python -m dylora_kit.backbones {name}` in {seconds} s.
- Settings: `{json.dumps(settings)}`.
- At the end: {numbers}.
- Licence: Apache-2.0. Data: `dylora_kit.synthetic.corpus`, generated.

| {" | ".join(log[0])} |
| {" | ".join("---" for _ in log[0])} |
{rows}
"""


def write(folder: Path, model: nn.Module, tokenizer: Any, card: str) -> None:
    """Writes a model, its tokenizer and its card into a folder, weights in half precision.

    The model itself is converted to half precision. It is opened in float32 again.
    """
    with tempfile.TemporaryDirectory() as scratch:
        model.half().save_pretrained(scratch)  # type: ignore[operator]
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()  # the last batch has set both, and they would be saved
        backend.no_padding()
        tokenizer.save_pretrained(scratch)
        files = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    config = json.loads(files["config.json"]) | {"dtype": "float32"}
    files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    write_files(folder, files | {"README.md": card.encode()})
