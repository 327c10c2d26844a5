"""The tables of a paper beside what was measured again: choose a table, a tier and a task, and turn the rank."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import ipywidgets

from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.live_view import PLAIN, LiveView
from dylora_kit.widgets.svg_cards.comparison import Comparison

if TYPE_CHECKING:
    from IPython.display import SVG


class PaperTables(LiveView):
    """A list of tables, a switch of tiers, a list of tasks and a slider of ranks; below them the two halves.

    Where the chosen table has no rank, the slider rests. What was not measured is said in a sentence below the picture,
    and in the picture's text.

    Arguments:
        comparisons: what can be chosen; `dylora_kit.paper.side_by_side.side_by_side()` gives those of DyLoRA's paper.

    Raises `ValueError` if there are none, or two have the same table, tier and task.

    `summary()` gives what is on show as text, and `picture_of` a picture of any comparison, which stays.
    """

    def __init__(self, comparisons: Sequence[Comparison]) -> None:
        self._all = {(one.table, one.tier, one.task): one for one in comparisons}
        if not comparisons or len(self._all) < len(comparisons):
            raise ValueError(f"expected comparisons that differ in table, tier or task: got {len(comparisons)}, of "
                             f"which {len(self._all)} differ")  # fmt: skip
        first = comparisons[0]
        titles = {f"{one.table}: {one.about}": one.table for one in comparisons}
        limits = {"value": 1, "min": 1, "max": 8, "style": PLAIN}
        self.slider = ipywidgets.IntSlider(**limits, description="Rank", readout=False, layout={"width": "300px"})
        self.number = ipywidgets.BoundedIntText(**limits, description="b =", layout={"width": "84px"})
        self.table = ipywidgets.Dropdown(options=list(titles.items()), value=first.table, description="Table",
                                         style=PLAIN, layout={"width": "520px"})  # fmt: skip
        self.tier = ipywidgets.ToggleButtons(options=self._tiers(first.table), style={"button_width": "auto"})
        self.task = ipywidgets.Dropdown(options=self._tasks(first.table, first.tier), description="Task", style=PLAIN,
                                        layout={"width": "auto"})  # fmt: skip
        self._choosing = False
        rows = [[self.table, self.task], [ipywidgets.Label("Measured again on"), self.tier], [self.slider, self.number]]
        super().__init__(rows, css_class="dk-tables-box")
        for name in ("slider", "number", "table", "tier", "task"):
            getattr(self, name).add_class(f"dk-{name}")
        self.table.observe(lambda _: self.choose(self.table.value), "value")
        self.tier.observe(lambda _: self.choose(self.table.value, self.tier.value), "value")
        self.task.observe(lambda _: self.choose(self.table.value, self.tier.value, self.task.value), "value")
        self.refresh()

    @property
    def shown(self) -> Comparison:
        """What is chosen."""
        return self._all[self.table.value, self.tier.value, self.task.value]

    def choose(self, table: str, tier: str | None = None, task: str | None = None, rank: int | None = None) -> None:
        """Shows a table; what is not named stays as it is where the table has it, and is its first one elsewhere.

        Arguments:
            table: such as `"Table 2"`.
            tier, task: as the controls call them.
            rank: default is the one that is shown.

        Raises `ValueError` for what there is not.
        """
        if self._choosing:
            return
        tier = self._named(tier, self.tier.value, self._tiers(table), f"{table} has no tier")
        task = self._named(task, self.task.value, self._tasks(table, tier), f"{table} has on {tier} no task")
        self._choosing = True
        self.table.value = table
        for control, options, value in ((self.tier, self._tiers(table), tier),
                                        (self.task, self._tasks(table, tier), task)):  # fmt: skip
            if list(control.options) != options:
                control.options = options
            control.value = value
        self._choosing = False
        if rank is not None:
            self.slider.value = rank
        self.refresh()

    @staticmethod
    def _named(name: str | None, now: str | None, there: list[str], trouble: str) -> str:
        if name is not None and name not in there:
            raise ValueError(f"{trouble} {name!r}: expected one of {', '.join(there)}")
        return name or (now if now in there else there[0]) or ""

    def _tiers(self, table: str) -> list[str]:
        tiers = list(dict.fromkeys(tier for of, tier, _ in self._all if of == table))
        if not tiers:
            raise ValueError(
                f"there is no {table!r}: expected one of {', '.join(dict.fromkeys(t for t, *_ in self._all))}"
            )
        return tiers

    def _tasks(self, table: str, tier: str) -> list[str]:
        return [task for of, at, task in self._all if (of, at) == (table, tier)]

    def refresh(self) -> None:
        """Draws what is chosen."""
        if self._choosing:
            return
        shown = self.shown
        most = max(shown.ranks, default=8)
        if self.slider.max != most:
            self.slider.max = self.number.max = most  # a rank that is too large becomes the largest
        self.slider.disabled = self.number.disabled = not shown.ranks
        rank = _nearest(shown, self.slider.value)
        marks = {"table": shown.table, "tier": shown.tier, "task": shown.task, "rank": str(rank)}
        below = f'<p class="dk-missing"><b>Gaps:</b> {escape(shown.missing)}</p>' if shown.missing else ""
        cards = svg_cards.compared_cards(shown, rank)
        self.picture.value = svg_cards.page(cards, shown.finding(rank), **marks) + below

    def summary(self) -> str:
        """What is on show, as text."""
        return self.shown.finding(_nearest(self.shown, self.slider.value))

    def in_saved_notebook(self) -> dict[str, str]:
        """A picture of the two halves."""
        return {"image/svg+xml": _still(self.shown, self.slider.value)}

    def picture_of(self, table: str, tier: str, task: str, rank: int = 1) -> "SVG":
        """A picture of a comparison that stays as it is; what the view shows stays, too.

        Arguments:
            table, tier, task, rank: as for `choose`.
        """
        from IPython.display import SVG

        self._named(tier, "", self._tiers(table), f"{table} has no tier")
        self._named(task, "", self._tasks(table, tier), f"{table} has on {tier} no task")
        return SVG(_still(self._all[table, tier, task], rank))


def _nearest(shown: Comparison, rank: int) -> int:
    """A rank that the comparison has; of one that it lacks, the next lower one."""
    return max((there for there in shown.ranks if there <= rank), default=min(shown.ranks, default=1))


def _still(shown: Comparison, rank: int) -> str:
    rank = _nearest(shown, rank)
    label = f"{shown.table}, rank" if shown.ranks else f"{shown.table}: {shown.about}"
    note = f"Gaps: {shown.missing}" if shown.missing else ""
    cards, most = svg_cards.compared_cards(shown, rank), max(shown.ranks, default=1)
    return svg_cards.still(cards, shown.finding(rank), label, rank, 1, most, note)
