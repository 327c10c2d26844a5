"""What a model wrote, as HTML: the text at the active rank, large, and a line for each rank, with its facts marked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from dylora_kit.evaluation.facts import Fact
from dylora_kit.widgets.live_writer import Written

MOST = 12  # values of a fact that are listed
ROW = 62  # letters of the large text that fit into a row
GLYPHS = {"said": "✓", "wrong": "✗", "missing": "○", "added": "+"}

# "&" are two classes, so that this also holds where JupyterLab styles the tables and lists of an HTML output
_RULES = """
& { line-height: 1.45; font-family: var(--jp-ui-font-family, system-ui, sans-serif); color: var(--ink);
  font-size: 15px; max-width: 960px; }
& .dk-card { background: color-mix(in srgb, var(--face) 45%, transparent); border: 1px solid var(--line);
  border-radius: 10px; padding: 16px 20px; margin-bottom: 12px; }
& .dk-top { display: flex; gap: 14px; align-items: baseline; flex-wrap: wrap; }
& .dk-method { font-size: 17px; font-weight: 700; }
& .dk-tally { margin-left: auto; font-size: 17px; font-weight: 700; }
& .dk-text { font-size: 28px; line-height: 1.45; margin: 8px 0 10px;
  overflow-wrap: anywhere; }
& .dk-problem { font-size: 20px; }
& mark { background: none; color: inherit; text-decoration-thickness: 3px; text-underline-offset: 5px; }
& .dk-said { text-decoration: underline solid var(--dk-2); text-decoration-thickness: 3px; }
& .dk-wrong { color: var(--dk-wrong); text-decoration: underline wavy var(--dk-wrong) 2px; }
& .dk-added { color: var(--dk-1); text-decoration: underline dashed var(--dk-1) 2px; }
& sup { font-size: .6em; font-weight: 700; line-height: 0; margin-left: 1px; }
& .dk-chips { display: flex; flex-wrap: wrap; gap: 8px; list-style: none; margin: 0; padding: 0;
  min-height: 31px; }
& .dk-chips li { border: 1.5px solid var(--line); border-radius: 99px; padding: 3px 12px; margin: 0;
  font-size: 14px; }
& .dk-chips b { font-weight: 700; }
& .dk-chips .dk-is-said { border-color: var(--dk-2); }
& .dk-chips .dk-is-wrong { border-color: var(--dk-wrong); }
& .dk-chips .dk-is-missing { border-style: dashed; border-color: var(--soft); }
& .dk-chips .dk-is-added { border-style: dashed; border-color: var(--dk-1); }
& .dk-is-said b, & .dk-glyph .dk-is-said { color: var(--dk-2); }
& .dk-is-wrong b, & .dk-glyph .dk-is-wrong { color: var(--dk-wrong); }
& .dk-is-added b, & .dk-glyph .dk-is-added { color: var(--dk-1); }
& .dk-soft { color: var(--soft); }
& .dk-remark { margin-top: 4px; padding: 4px 10px; border-left: 4px solid var(--dk-wrong); }
& table { border-collapse: collapse; width: 100%; table-layout: auto;
  font-size: 15px; color: inherit; margin: 0; border: 0; }
& thead { border: 0; }
& tbody tr:nth-child(n) { background: none; }
& td, & th { text-align: left; vertical-align: baseline; padding: 5px 10px 5px 0; border: 0;
  border-top: 1px solid color-mix(in srgb, var(--line) 60%, transparent); font-weight: 400; max-width: none;
  white-space: normal; overflow-wrap: anywhere; background: none; line-height: 1.6; }
& thead th, & thead td, & tbody tr:first-child > * { border-top: 0; }
& thead th { font-size: 12px; color: var(--soft); }
& th { width: 1.4em; padding-left: 8px; border-left: 4px solid transparent; overflow-wrap: normal; }
& .dk-slot, & .dk-glyph { width: 1%; padding: 5px 6px; text-align: center; white-space: nowrap;
  border-left: 0; }
& .dk-glyph span { font-weight: 700; }
& tbody tr.dk-active:nth-child(n) { background: color-mix(in srgb, var(--dk-active) 12%, transparent); }
& tr.dk-active th { border-left-color: var(--dk-active); }
& tr.dk-active th, & tr.dk-active td:last-child { font-weight: 700; }
"""
_LIST = """
.dk-known { font-size: 13px; line-height: 1.5; margin: 0 0 4px; } .dk-known ul { margin: 4px 0; padding-left: 20px; }
.dk-known summary { cursor: pointer; }
"""
STYLE = f"<style>{_RULES.replace('&', '.dk-explorer.dk-written')}{_LIST}</style>"


@dataclass
class Line:
    """The text at one rank; no facts where nothing reads them."""

    rank: int
    written: Written
    facts: Sequence[Fact] = ()


@dataclass
class Page:
    """One state of the language explorer.

    Attributes:
        rank, r: the active rank and the largest.
        method: the name of the active method, and `kind` its index, which is that of its colour.
        lines: by rank; the active one is among them.
        adapted: whether the rank makes a difference.
        writing: whether the texts are still being written.
        problem: a sentence instead of texts.
        remark: a sentence beside the texts.
    """

    rank: int
    r: int
    method: str
    kind: int
    lines: Sequence[Line] = field(default_factory=list)
    adapted: bool = True
    writing: bool = False
    problem: str = ""
    remark: str = ""

    @property
    def active(self) -> Line | None:
        """The line at the active rank."""
        return next((line for line in self.lines if line.rank == self.rank), None)

    @property
    def finding(self) -> str:
        """What the model wrote at the active rank, and what became of the facts, in words.

        >>> Page(1, 8, "DyLoRA", 0, [Line(1, Written("A pub.", True), [Fact("kind", "pub", "said")])]).finding
        'Rank 1 of 8, DyLoRA, writes: “A pub.” 1 of 1 facts said.'
        """
        where = f"Rank {self.rank} of {self.r}, {self.method}," if self.adapted else f"With {self.method}, the model"
        line = self.active
        if self.problem or line is None:
            return self.problem
        facts = "; ".join([f"{tally(line.facts)} facts said", *(f.label for f in line.facts if f.state != "said")])
        text = f"“{line.written.text}”" if line.written.text else "nothing."
        return f"{where} writes: {text}" + (f" {facts}." if line.facts and not self.writing else "")


def tally(facts: Sequence[Fact]) -> str:
    """How many of the facts that the input gives are said.

    >>> tally([Fact("kind", "pub", "said"), Fact("dogs", "no", "missing"), Fact("music", "no", "added")])
    '1 of 2'
    """
    return f"{sum(fact.state == 'said' for fact in facts)} of {sum(fact.state != 'added' for fact in facts)}"


def written_page(page: Page) -> str:
    """The page as HTML: a card with the active text and its facts, and one with a line for each rank."""
    colour = f"var(--dk-{page.kind})" if page.kind >= 0 else "var(--ink)"
    marks = f'data-rank="{page.rank}" data-method="{escape(page.method)}" data-state="{_state(page)}"'
    return (
        f'<div class="dk-explorer dk-written" style="--dk-active:{colour}"><div role="group" '
        f'{marks} aria-busy="{str(page.writing).lower()}" aria-label="{escape(page.finding)}">'
        f"{_large(page)}{_lines(page)}</div></div>"
    )


def known_facts(known: Mapping[str, Sequence[str]]) -> str:
    """What facts can be, as HTML that is folded until it is wanted.

    Arguments:
        known: the values by the name of what a fact is about.
    """
    lines = []
    for name, values in known.items():
        more = f" … and {len(values) - MOST} more" if len(values) > MOST else ""
        lines.append(f"<li><b>{escape(name)}</b>: {escape(', '.join(values[:MOST]))}{more}</li>")
    return f'<details class="dk-known"><summary>What the facts can be</summary><ul>{"".join(lines)}</ul></details>'


def unknown_facts(facts: Sequence[Fact], known: Mapping[str, Sequence[str]]) -> str:
    """A sentence about the facts of an input that are none of the known ones; empty if there are none.

    >>> unknown_facts([Fact("food", "Martian", "missing"), Fact("kind", "pub", "said")], {"food": ["Thai"]})
    'Not among the facts that can be looked up: food: Martian; kind.'
    """
    given = [fact for fact in facts if fact.state != "added"]
    strange = [f"{fact.name}: {fact.value}" if fact.name in known else fact.name for fact in given
               if fact.value not in known.get(fact.name, ())]  # fmt: skip
    return f"Not among the facts that can be looked up: {'; '.join(strange)}." if strange else ""


def _state(page: Page) -> str:
    return "problem" if page.problem else "writing" if page.writing else "written"


def _large(page: Page) -> str:
    """The card with the active text."""
    line = page.active
    counted = f"{tally(line.facts)} facts said" if line is not None and line.facts and not page.writing else ""
    rank = f"rank {page.rank} of {page.r}" if page.adapted else "the same at every rank"
    top = (
        f'<div class="dk-top"><span class="dk-method" style="color:var(--dk-active)">{escape(page.method)}</span> '
        f'<span class="dk-soft">{rank}</span> <span class="dk-tally">{counted}</span></div>'
    )
    if page.problem or line is None:
        return f'<div class="dk-card">{top}<div class="dk-text dk-problem">{escape(page.problem)}</div></div>'
    chips = "".join(_chip(fact, page.writing) for fact in line.facts)
    remark = f'<div class="dk-remark">{escape(page.remark)}</div>' if page.remark else ""
    below = f'<ul class="dk-chips">{chips}</ul>' if chips or not page.remark else ""
    rows = max(2, *(math.ceil(len(other.written.text) / ROW) for other in page.lines))  # one height for all ranks
    room = f'style="min-height:{1.45 * rows:.2f}em"'
    return (
        f'<div class="dk-card">{top}{remark}<div class="dk-text" {room}>{marked(line, page.writing)}</div>{below}</div>'
    )


def _chip(fact: Fact, writing: bool) -> str:
    """A fact in words. While a text is being written, what it has not said is not missing yet."""
    waiting = writing and fact.state == "missing"
    told = {"said": "", "wrong": f", says {escape(fact.instead)}", "missing": " missing", "added": " added"}[fact.state]
    glyph, told = ("·", "") if waiting else (GLYPHS[fact.state], told)
    look = "" if waiting else f' class="dk-is-{fact.state}"'
    return f"<li{look}><b>{glyph}</b> {escape(fact.name)}: {escape(fact.value)}{told}</li>"


def _lines(page: Page) -> str:
    """The card with a line for each rank, and a column for each fact; none where the rank makes no difference."""
    if page.problem or not page.adapted:
        return ""
    names = [fact.name for fact in page.lines[0].facts if fact.state != "added"]
    if names:
        columns = "".join(f'<th scope="col" class="dk-slot">{escape(name)}</th>' for name in [*names, "added", "said"])
        head = f'<thead><tr><th scope="col">b</th><td></td>{columns}</tr></thead>'
    else:
        head = ""
    rows = "".join(_row(line, len(names), line.rank == page.rank, page.writing) for line in page.lines)
    return f'<div class="dk-card"><table>{head}<tbody>{rows}</tbody></table></div>'


def _row(line: Line, given: int, active: bool, writing: bool) -> str:
    """The line of one rank; the facts that the input gives come first."""
    cells = "<td></td>" * (given + 2) if given else ""
    if given and not writing:
        states = [*line.facts[:given], *line.facts[given : given + 1]]
        glyphs = [f'<span class="dk-is-{fact.state}" title="{escape(fact.label)}">{GLYPHS[fact.state]}</span>'
                  for fact in states]  # fmt: skip
        added = len(line.facts) - given
        glyphs = [*glyphs[:given], f"{glyphs[-1]}{added}" if added else "", tally(line.facts)]
        cells = "".join(f'<td class="dk-glyph">{glyph}</td>' for glyph in glyphs)
    look = ' class="dk-active" aria-current="true"' if active else ""
    return f'<tr{look}><th scope="row">{line.rank}</th><td>{marked(line, writing)}</td>{cells}</tr>'


def marked(line: Line, writing: bool = False) -> str:
    """A text as HTML, escaped, with what it says of the facts marked where it stands."""
    text, parts, place = line.written.text, [], 0
    spans = sorted((start, end, number) for number, fact in enumerate(line.facts) for start, end in fact.spans)
    for start, end, number in spans:
        if start < place:
            continue  # two facts told by the same words: the first one is marked
        fact = line.facts[number]
        glyph = "" if fact.state == "said" else f"<sup>{GLYPHS[fact.state]}</sup>"
        words = f"{escape(text[start:end])}{glyph}"
        parts.append(
            f'{escape(text[place:start])}<mark class="dk-{fact.state}" title="{escape(fact.label)}">{words}</mark>'
        )
        place = end
    shown = "".join([*parts, escape(text[place:])]).replace("\n", ' <span class="dk-soft">↵</span> ')
    if writing:
        return shown if line.written.ended else f'{shown}<span class="dk-soft">▍</span>'
    if not text:
        return '<i class="dk-soft">(writes nothing)</i>'
    return shown if line.written.ended else f'{shown}<span class="dk-soft" title="cut off here"> …</span>'
