"""The rank slider over what a language model writes: live, token by token, at all ranks side by side."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ipywidgets
from torch import nn

from dylora_kit.core.handle import Adapters
from dylora_kit.evaluation.facts import Fact, Reader
from dylora_kit.plots.drawing import looks
from dylora_kit.widgets import same_model, svg_cards
from dylora_kit.widgets.answer_table import shown_ranks
from dylora_kit.widgets.live_view import PLAIN, LiveView
from dylora_kit.widgets.live_writer import LiveWriter, Written
from dylora_kit.widgets.written_page import STYLE, Line, Page, known_facts, tally, unknown_facts, written_page

if TYPE_CHECKING:
    import pandas as pd

BASE = "no adapter"
CHOOSE = "Choose an input …"
LETTERS = 110  # of an input in the list
_WIDE = {"width": "100%"}


class LanguageExplorer(LiveView):
    """A slider over the rank at which a live model writes, and a field for what it is to write about.

    Moving the slider sets `adapters.rank` of the model in the kernel. An input, typed or chosen, is written at all
    ranks in one batch with a rank for each row, token by token before your eyes. Texts are kept for each input, method
    and rank, until the weights change; after a training, any move or `refresh()` writes anew.

    Arguments:
        model, adapters: a causal language model and its handle.
        tokenizer: the model's.
        inputs: those to choose from; the first one is written at once.
        ending: what the model is given after an input, such as `"\\n"`.
        reader: `(text, input) → facts`, of which those that are said, wrong, missing and added are marked, such as
            `read_facts` of `tasks/describe.py`.
        known: what facts can be, `{name: values}`, such as `describe.SLOTS`. It can be looked up below the field, and
            the page says which facts of a typed input are none of these.
        name: what the model's method is called.
        rivals: other models to compare with, `{name: handle}`, up to three. A switch chooses which one writes; its last
            choice is the model without its adapter. To cut the same adapter at another scale, take a copy:
            `dk.handle_of(copy.deepcopy(model))`, and set its `scaling`.
        max_new_tokens: a text ends after so many tokens at the latest.

    Attributes:
        adapters: the handle that it was made for.

    Raises `ValueError` for what does not fit together, and changes nothing then. An input that cannot be written says
    why in the page.

    Beside curves and matrices it is a part of `RankExplorer(writing=…)`. `summary()` gives what is on show as text,
    `texts` as a frame, and `still()` as a picture for a saved notebook.
    """

    def __init__(
        self,
        model: nn.Module,
        adapters: Adapters,
        tokenizer: Any,
        inputs: Sequence[str],
        *,
        ending: str = "",
        reader: Reader | None = None,
        known: Mapping[str, Sequence[str]] | None = None,
        name: str = "DyLoRA",
        rivals: Mapping[str, Adapters] | None = None,
        max_new_tokens: int = 80,
    ) -> None:
        _check(model, adapters, inputs, name, rivals or {}, max_new_tokens)
        self.adapters, self._ending, self._led = adapters, ending, False
        self._reader = lru_cache(maxsize=1000)(reader) if reader is not None else None
        handles = {name: adapters, **(rivals or {})}
        self._writers = {key: LiveWriter(handle, tokenizer, max_new_tokens) for key, handle in handles.items()}
        self._writers[BASE] = LiveWriter(adapters, tokenizer, max_new_tokens, adapted=False)
        self._known = dict(known or {})
        self._make_controls(adapters, list(inputs))
        help_on_input = [ipywidgets.HTML(known_facts(self._known), layout=_WIDE)] if known else []
        rows = [[self.choice], [self.prompt], help_on_input, [self.slider, self.number, self.note], [self.method]]
        super().__init__(rows, css_class="dk-language-box", style=STYLE)
        same_model.join(self, [writer.handle for writer in self._writers.values()])
        for control in ("slider", "number", "method", "choice", "prompt"):
            getattr(self, control).add_class(f"dk-{control}")
        self.choice.observe(self._chosen, "value")
        for control in (self.prompt, self.method):
            control.observe(lambda _: self.refresh(), "value")
        self.refresh()

    def _make_controls(self, adapters: Adapters, inputs: list[str]) -> None:
        options = [(CHOOSE, ""), *((_shortened(text), text) for text in dict.fromkeys(inputs))]
        self.choice = ipywidgets.Dropdown(options=options, description="Inputs", style=PLAIN, layout=_WIDE)
        self.prompt = ipywidgets.Text(
            value=inputs[0],
            description="Write about",
            placeholder="type an input, and press Enter",
            continuous_update=False,
            style=PLAIN,
            layout=_WIDE,
        )
        start = adapters.rank if isinstance(adapters.rank, int) else adapters.r
        limits = {"value": start, "min": 1, "max": adapters.r, "style": PLAIN}
        label = {"description": "Inference rank", "readout": False, "layout": {"width": "380px"}}
        self.slider = ipywidgets.IntSlider(**limits, **label)
        self.number = ipywidgets.BoundedIntText(**limits, description="b =", layout={"width": "90px"})
        self.note = ipywidgets.HTML()
        self.method = ipywidgets.ToggleButtons(options=list(self._writers), style={"button_width": "auto"})

    def _chosen(self, _: Any) -> None:
        """Puts a chosen input into the field, and the list back to its first line, so that it can be chosen again."""
        if self.choice.value:
            text, self.choice.value = self.choice.value, ""
            self.prompt.value = text

    def refresh(self) -> None:
        """Sets every model to the slider's rank, writes what is not known yet, and draws."""
        writer = self._writers[self.method.value]
        self.number.value = self.slider.value  # before the texts, which may take a while
        with same_model.turning(self, self.slider.value, tell=not self._led):
            try:
                for other in self._writers.values():
                    other.handle.rank = self.slider.value
                self._page = self._written(writer)
            except ValueError as error:
                self._page = self._empty_page(problem=f"{str(error)[:1].upper()}{str(error)[1:]}.")
            self.picture.value = written_page(self._page)
        used = writer.handle.num_parameters(self.slider.value)
        size = f"{used:,} adapter parameters" if writer.adapted else "the adapters are off"
        self.note.value = f"of {self.slider.max} &nbsp;·&nbsp; {size}"

    def follow(self, rank: int) -> None:
        """Shows what is written at a rank that another view's slider is at, and hides its own slider."""
        self._led = True
        self.slider_row.layout.display = "none"
        super().catch_up(rank)

    def catch_up(self, rank: int) -> None:
        """Shows what is written at a rank that another view has put the model at."""
        if not self._led:  # else the view that it is a part of tells it
            super().catch_up(rank)

    def _written(self, writer: LiveWriter) -> Page:
        """What the active method writes. The page on show follows the texts as they grow."""
        if not self.prompt.value.strip():
            raise ValueError("the field is empty: type an input, or choose one from the list")
        ranks = sorted({*shown_ranks(self.slider.max), self.slider.value})

        def show(texts: dict[int, Written]) -> None:
            self.picture.value = written_page(self._page_of(texts, writing=True))

        return self._page_of(writer.texts(self.prompt.value + self._ending, ranks, show))

    def _page_of(self, texts: Mapping[int, Written], writing: bool = False) -> Page:
        """Texts with their facts, as the reader finds them in each."""
        page, facts = self._empty_page(writing=writing), dict[str, Sequence[Fact]]()
        try:
            if self._reader is not None:
                facts = {text: self._reader(text, self.prompt.value) for text in {w.text for w in texts.values()}}
        except ValueError as error:
            page.remark = f"Nothing is marked: {error}."
        if self._known and texts:
            page.remark = page.remark or unknown_facts(next(iter(facts.values()), ()), self._known)
        page.lines = [Line(rank, written, facts.get(written.text, ())) for rank, written in sorted(texts.items())]
        return page

    def _empty_page(self, **state: Any) -> Page:
        method = self.method.value
        adapted, kinds = self._writers[method].adapted, looks([name for name in self._writers if name != BASE])
        return Page(self.slider.value, self.slider.max, method, kinds.get(method, -1), adapted=adapted, **state)

    @property
    def texts(self) -> "pd.DataFrame":
        """What is on show: columns method, rank, text, and how many facts are said, wrong, missing and added."""
        import pandas as pd

        rows = []
        for line in self._page.lines:
            states = [fact.state for fact in line.facts]
            counts = {state: states.count(state) for state in ("said", "wrong", "missing", "added")}
            rows.append({"method": self._page.method, "rank": line.rank, "text": line.written.text, **counts})
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """What the model wrote at the slider's rank, and what became of the facts."""
        return self._page.finding

    def in_saved_notebook(self) -> dict[str, str]:
        """The page as it is, without controls."""
        return {"text/html": svg_cards.STYLE + STYLE + written_page(self._page)}

    def __repr__(self) -> str:
        lines = [f"rank {line.rank}: {line.written.text}" for line in self._page.lines if self._page.adapted]
        counts = [f" ({tally(line.facts)})" if line.facts else "" for line in self._page.lines]
        return "\n".join([super().__repr__(), *map("".join, zip(lines, counts, strict=False))])


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LETTERS else f"{line[: LETTERS - 2]} …"


def _check(
    model: nn.Module,
    adapters: Adapters,
    inputs: Sequence[str],
    name: str,
    rivals: Mapping[str, Adapters],
    max_new_tokens: int,
) -> None:
    """Raises `ValueError` for models, inputs and names that do not fit together."""
    if isinstance(inputs, str) or not inputs or not all(isinstance(text, str) for text in inputs):
        raise ValueError(f"inputs must be a list of one text or more, to choose from: got {inputs!r}")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1: got {max_new_tokens}")
    names = [name, *rivals, BASE]
    if len(set(names)) < len(names):
        raise ValueError(f"two methods have the same name: give each of {', '.join(map(repr, names))} one of its own")
    if len(rivals) > 3:
        raise ValueError(f"the explorer compares up to three rivals: got {len(rivals)}")
    for key, handle in {name: adapters, **rivals}.items():
        if not isinstance(handle, Adapters):
            raise ValueError(f"{key!r} needs the handle on adapters, as dk.attach returns it: got {handle!r}")
        if handle.r != adapters.r:
            raise ValueError(f"{key!r} has r = {handle.r}, and {name!r} r = {adapters.r}: compare adapters of one r")
        if not hasattr(handle.model, "generate"):
            raise ValueError(f"the model of {key!r} does not write: pass a causal language model of transformers")
    adapters.check_usable(model)
