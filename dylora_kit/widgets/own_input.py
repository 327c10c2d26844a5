"""What you give the models yourself, a drawing or a sentence, and what they answer to it at every rank."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import torch

from dylora_kit.widgets.answer_table import Answer, answer, answer_table, in_a_sentence, shown_ranks
from dylora_kit.widgets.drawing_pad import DrawingPad
from dylora_kit.widgets.live_model import LiveModel

# text → an example without a label; a tokenizer of transformers is one
Read = Callable[[str], Mapping[str, Any]]

MOST_WORDS, MOST_TOKENS = 100, 512  # of a sentence; the first is for people, the second for models without a limit
EMPTY = "Draw something first: with the mouse, a finger, or arrow keys and the space bar."
NOTHING = "Type a sentence first, and press Enter."
_WIDE = {"width": "100%"}

STYLE = """<style>
.dk-own { margin: 10px 0 0; }
.dk-own .dk-pad { width: 232px; flex: none; }
.dk-own .dk-grid { width: 224px; margin: 3px; touch-action: none; cursor: crosshair; border: 1px solid #8a8a8a;
  background: #5a5a5a; display: grid; gap: 1px; user-select: none; }
.dk-own .dk-grid [role=row] { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 1px; }
.dk-own .dk-grid [role=gridcell] { aspect-ratio: 1; background: rgb(calc(255 * var(--ink, 0)) calc(255 * var(--ink, 0))
  calc(255 * var(--ink, 0))); }
.dk-own .dk-grid [role=gridcell]:focus-visible { outline: 3px solid #ff9d2e; outline-offset: -1px; z-index: 1; }
.dk-own .dk-grid[aria-disabled=true] { cursor: not-allowed; opacity: .6; }
.dk-own .dk-said { min-height: 1.6em; }
.dk-own .dk-said .widget-html-content { white-space: normal; line-height: 1.45; font-size: 15px; }
</style>"""


class OwnInput(ipywidgets.VBox):
    """An input of your own, and the table of what live models answer to it.

    A subclass makes `controls` and defines `given`, which is what they hold.

    Arguments:
        live: the models by name.
        classes: what the classes are called.
        changed: called when what is given changes; it has to call `show`.

    Attributes:
        controls: what takes the input, such as a field. They rest while a model is trained.
        said: the answers at the active rank, or why there are none, as HTML.
        table: the answers at every rank, as HTML.
        answers: the answers that are on show, by method and rank.
    """

    controls: Sequence[ipywidgets.Widget]

    def __init__(
        self, live: Mapping[str, LiveModel], classes: Sequence[str], changed: Callable[[], None], **options: Any
    ) -> None:
        self._live, self._classes, self._changed = live, list(classes), changed
        self.said, self.table = ipywidgets.HTML(), ipywidgets.HTML()
        self.said.add_class("dk-said")
        self.answers: dict[str, dict[int, Answer]] = {}
        super().__init__(layout=_WIDE, **options)
        self.add_class("dk-own")

    def given(self) -> tuple[Any, Mapping[str, Any], str]:
        """A key that is the same for the same input, the example that models are given, and a remark about it.

        Raises `ValueError` with what to say if there is nothing to give.
        """
        raise NotImplementedError

    def empty(self) -> None:
        """Takes the input away."""
        raise NotImplementedError

    def show(self, rank: int) -> None:
        """Has every model answer at every rank, what is known aside, and marks the active one."""
        handle = next(iter(self._live.values())).handle
        ranks = sorted({*shown_ranks(handle.r), rank})
        try:
            key, example, remark = self.given()
            self.answers = {name: self._answers_of(live, key, example, ranks) for name, live in self._live.items()}
            told = [in_a_sentence(self.answers, rank), remark]
        except ValueError as problem:
            self.answers, told = {}, [str(problem)]
        self.said.value = " ".join(escape(words) for words in told if words)
        shown = self.answers or {name: {} for name in self._live}
        self.table.value = answer_table(shown, ranks, rank)

    def _answers_of(
        self, live: LiveModel, key: Any, example: Mapping[str, Any], ranks: Sequence[int]
    ) -> dict[int, Answer]:
        try:
            outputs = live.read(key, example, ranks)
        except (ValueError, IndexError, KeyError, RuntimeError) as error:
            raise ValueError(f"The model cannot read this: {error}.") from error
        return {rank: answer(output, self._classes) for rank, output in outputs.items()}


class OwnDrawing(OwnInput):
    """A grid to draw in, and what the models answer to the drawing.

    Arguments:
        shape: of the pictures that the models read: (1, rows, columns), from −1 (no ink) to 1.

    Attributes:
        pad: the grid.
        clear, turn: the buttons that empty it, and turn what is drawn by 90°.
    """

    def __init__(
        self,
        shape: Sequence[int],
        live: Mapping[str, LiveModel],
        classes: Sequence[str],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(live, classes, changed)
        self._shape = tuple(shape)
        _, rows, columns = self._shape
        self.pad = DrawingPad(rows, columns, f"Draw a picture, {rows} by {columns} cells")
        self.clear = ipywidgets.Button(description="Clear", icon="eraser", layout={"width": "auto"})
        self.turn = ipywidgets.Button(description="Turn by 90°", icon="undo", layout={"width": "auto"})
        square = [self.turn] if rows == columns else []
        self.controls = [self.pad, self.clear, self.turn]
        self.pad.observe(lambda _: changed(), "sheet")
        self.clear.on_click(lambda _: self.pad.clear())
        self.turn.on_click(lambda _: self.pad.turn())
        left = ipywidgets.VBox([self.pad, ipywidgets.HBox([self.clear, *square])], layout={"flex": "none"})
        right = ipywidgets.VBox([self.said, self.table], layout={"flex": "1 1 320px", "margin": "0 0 0 14px"})
        title = ipywidgets.HTML("<b>Draw your own</b>")
        self.children = [title, ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap", "width": "100%"})]

    def given(self) -> tuple[Any, Mapping[str, Any], str]:
        """The drawing as `pixel_values`."""
        if self.pad.empty:
            raise ValueError(EMPTY)
        pixels = 2 * np.reshape(self.pad.cells, self._shape).astype(np.float32) - 1
        return tuple(self.pad.cells), {"pixel_values": torch.from_numpy(pixels)}, ""

    def empty(self) -> None:
        """Empties the grid."""
        self.pad.clear()


class OwnSentence(OwnInput):
    """A field for a sentence, and what the models answer to it.

    Arguments:
        read: makes the example that models are given of a text, or a tokenizer.

    Attributes:
        text: the field.
    """

    def __init__(
        self,
        read: Read,
        live: Mapping[str, LiveModel],
        classes: Sequence[str],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(live, classes, changed)
        self._read = read
        self.text = ipywidgets.Text(
            description="Your sentence",
            placeholder="type a sentence, and press Enter",
            continuous_update=False,
            style={"description_width": "initial"},
            layout={"width": "auto"},
        )
        self.text.add_class("dk-sentence")
        self.controls = [self.text]
        self.text.observe(lambda _: changed(), "value")
        self.children = [self.text, self.said, self.table]

    def given(self) -> tuple[Any, Mapping[str, Any], str]:
        """The sentence as `read` makes it: at most its first words."""
        words = self.text.value.split()
        if not words:
            raise ValueError(NOTHING)
        remarks = [f"Only the first {MOST_WORDS} words are read."] if len(words) > MOST_WORDS else []
        sentence = self.text.value.strip() if not remarks else " ".join(words[:MOST_WORDS])
        try:
            if hasattr(self._read, "model_max_length"):
                example, remark = _tokenized(self._read, sentence)
                remarks.append(remark)
            else:
                example = self._read(sentence)
        except Exception as error:  # the function is the user's own
            raise ValueError(f"This sentence cannot be read: {type(error).__name__}, {error}.") from error
        if not isinstance(example, Mapping):
            kind = type(example).__name__
            raise ValueError(f"read=… gives a {kind}: expected a dict, such as the tokenizer's, without a label.")
        return sentence, example, " ".join(filter(None, remarks))

    def empty(self) -> None:
        """Empties the field."""
        self.text.value = ""


def _tokenized(tokenizer: Any, sentence: str) -> tuple[Mapping[str, Any], str]:
    """What a tokenizer makes of a sentence, cut to what the model takes, and a remark about it."""
    most = min(tokenizer.model_max_length, MOST_TOKENS)
    example = tokenizer(sentence, truncation=True, max_length=most)
    cut = len(example["input_ids"]) < len(tokenizer(sentence, add_special_tokens=False, verbose=False)["input_ids"])
    words = sentence.split()
    strange = sum(_is_strange(tokenizer, word) for word in words)
    remarks = [f"Only its first {most} tokens are read."] if cut else []
    if strange == len(words):
        remarks.append("The model knows none of its words, so its answer says nothing about the sentence.")
    elif strange:
        remarks.append(f"The model knows {len(words) - strange} of its {len(words)} words.")
    return dict(example), " ".join(remarks)


def _is_strange(tokenizer: Any, word: str) -> bool:
    """Whether a tokenizer does not know a word: it has none of its letters, or spells it letter by letter."""
    tokens = tokenizer(word, add_special_tokens=False, verbose=False)["input_ids"]
    return tokenizer.unk_token_id in tokens or len(tokens) > max(len(word), 1)
