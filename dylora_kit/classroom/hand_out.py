"""The hand-out: DyLoRA on one page, with the curve that was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dylora_kit.classroom.sheet import BLUE, GREY, HEIGHT, MARGIN, PALE, WIDTH, Sheet
from dylora_kit.classroom.sheet_figures import CUT, DYLORA, curves, matrices

RESULTS = "table2-digits-turned.csv"
FOOT = HEIGHT - 21  # where the line above the sources is
STEPS = (
    "**Draw** a rank b, from 1 to r. All layers use it.",
    "**Run** the batch with the first b rows of A and the first b columns of B. The scale is α/b.",
    "**Learn** from the error. Only those rows and columns get a gradient.",
    "**Move** only them. Under AdamW that takes care: momentum and weight decay move the others, too.",
)
WHY = (
    "Row 1 works in every step, and in one step of r it works alone. So it learns what matters most. The next rows "
    "tend to add what helps next. In a plain LoRA all rows are trained together, and each relies on the others. Cut "
    "some off, and the rest no longer fits."
)
NOT_FOR = (
    "**You know the rank.** A LoRA that is trained for it alone is as good or better.",
    "**You have a LoRA.** Its SVD cut is the matrix of rank b that is closest to B times A. It costs no training. From "
    "rank 5 on it is about as good here. If the head, the last layer, which names the digit, is then trained anew, it "
    "comes closer at the ranks below.",
    "**You want the best at rank r.** A LoRA has all its steps for that one rank.",
)
CODE = (
    "import dylora_kit as dk",
    "from dylora_kit import backbones",
    "from dylora_kit.tasks import digits",
    "",
    'task = digits.load("turned")',
    'model = backbones.load("digits-vit")',
    "adapters = dk.attach(model, r=8, lora_alpha=16,",
    '    target_modules="attention", seed=10,',
    '    modules_to_save=["classifier"])    # the head',
    "dk.train(model, adapters, task.train, seed=10,",
    "    sampler=dk.RankSampler(dk.Uniform(1, 8), seed=10),",
    "    optimizer=dk.NestedAdamW(adapters, lr=4e-3),",
    "    max_grad_norm=1.0, steps=1500)",
    "adapters.rank = 3    # now, or whenever you like",
    "print(dk.sweep(model, adapters, task.test))",
)
CODE_SIZE, CODE_INDENT = 7.0, 2.5  # points, millimetres
QUESTIONS = (
    "Row 5 of 8: in which share of the steps is it trained, if every rank is as likely?",
    "Your phone has room for rank 2, and sometimes for rank 8. Which ranks do you draw most often?",
    "The scale grows from α/8 to α/1 when you cut to rank 1. How could you find out whether that is what breaks the "
    "plain LoRA?",
)
SOURCE = (
    "Valipour, Rezagholizadeh, Kobyzev, Ghodsi: DyLoRA, arXiv 2210.07558. Digits: Alpaydin and Kaynak, Optical "
    "Recognition of Handwritten Digits, UCI, CC BY 4.0, turned by 90°. Curve: mean of {seeds} trainings of each, "
    "{steps:,} steps, {path}. At rank 1 a single training differs from it by several points."
)


def measured(results: Path) -> tuple[dict[str, list[float]], int, int]:
    """Percent right at each rank for the two methods of the curve, the number of trainings of each, and their steps.

    Raises `FileNotFoundError` without the results, and `ValueError` if one of the methods is not in them.
    """
    import pandas as pd

    if not (results / RESULTS).is_file():
        raise FileNotFoundError(f"there is no {RESULTS} in {results}: it is in data/results of the repository")
    frame = pd.read_csv(results / RESULTS).query("domain == 'turned'")
    missing = [name for name in (DYLORA, CUT) if not (frame["method"] == name).any()]
    if missing:
        raise ValueError(f"{results / RESULTS} has no method {missing[0]!r}, which the hand-out draws")
    ours = frame[frame["method"] == DYLORA]
    means = {
        name: (100 * frame[frame["method"] == name].groupby("rank")["value"].mean()).tolist() for name in (DYLORA, CUT)
    }
    return means, int(ours["seed"].nunique()), int(ours["steps"].max())


def hand_out(results: Path, page: str | None) -> bytes:
    """The hand-out as a PDF of one A4 page.

    Arguments:
        results: the folder `data/results`.
        page: the address of the page with the slider, for the QR code; None if there is none.
    """
    means, seeds, steps = measured(results)
    sheet = Sheet("DyLoRA on one page")
    y = _head(sheet, page)
    y = _idea(sheet, y + 5, means)
    left = right = y + 7
    half = (WIDTH - 2 * MARGIN - 8) / 2
    other = MARGIN + half + 8
    left = _section(sheet, MARGIN, left, half, "One training step")
    left = _list(sheet, MARGIN, left, half, STEPS, numbered=True)
    left = _section(sheet, MARGIN, left + 5, half, "Why it helps")
    left = sheet.paragraph(MARGIN, left, half, WHY)
    left = _section(sheet, MARGIN, left + 5, half, "When not to use it")
    left = _list(sheet, MARGIN, left, half, NOT_FOR)
    right = _section(sheet, other, right, half, "Turned digits read rightly, in %")
    curves(sheet, other, right + 1, half, 44, means)
    right = _section(sheet, other, right + 49, half, "In Python")
    right = _code(sheet, other, right, half, CODE)
    right = _section(sheet, other, right + 5, half, "To think about")
    right = _list(sheet, other, right, half, QUESTIONS, numbered=True)
    if max(left, right) > FOOT:
        raise ValueError("the page is full, and its texts run into the line of sources: shorten one")
    path = f"data/results/{RESULTS}"
    sheet.line([(MARGIN, FOOT), (WIDTH - MARGIN, FOOT)], colour=PALE)
    said = SOURCE.format(seeds=seeds, steps=steps, path=path)
    sheet.paragraph(MARGIN, HEIGHT - 19, WIDTH - 2 * MARGIN, said, size=6.6, colour=GREY)
    return sheet.content()


def _head(sheet: Sheet, page: str | None) -> float:
    size = 29.0
    width = WIDTH - 2 * MARGIN - (size + 10 if page else 0)
    y = sheet.paragraph(MARGIN, 15, width, "DyLoRA on one page", size=25, style="B", spacing=1.2)
    said = "One training gives you an adapter for **every rank**. You choose the rank afterwards, with one assignment."
    y = sheet.paragraph(MARGIN, y + 1.5, width, said, size=12)
    if page is None:
        said = "To turn the rank yourself, open page/index.html, which came with this sheet, in any browser."
        return sheet.paragraph(MARGIN, y + 2, width, said, size=9, colour=GREY)
    sheet.qr(WIDTH - MARGIN - size, 15, size, page)
    y = sheet.paragraph(MARGIN, y + 2, width, f"Turn the rank yourself, in any browser: {page}", size=9, colour=GREY)
    return max(y, 15 + size)


def _idea(sheet: Sheet, y: float, means: Mapping[str, list[float]]) -> float:
    text = (
        "A layer keeps its weights W₀. Beside it learns a small adapter: the product of two thin matrices, B and A. "
        "Its **rank** b says how many columns of B and rows of A take part. Of 100 digits that are turned by 90°, the "
        f"DyLoRA below reads {means[DYLORA][0]:.0f} at rank 1. A plain LoRA that is cut to rank 1 reads "
        f"{means[CUT][0]:.0f}."
    )
    y = sheet.paragraph(MARGIN, y, WIDTH - 2 * MARGIN, text, size=9.6)
    tall = 27
    figure = matrices(sheet, MARGIN + 20, y + 7, tall, r=8, b=3)
    x = MARGIN + 20 + figure + 9
    sheet.box(x, y + 10, 4, 2.2, fill=BLUE, colour=BLUE, line=0.2)
    sheet.words(x + 6, y + 12, "read", size=8)
    sheet.box(x, y + 16, 4, 2.2, colour=GREY, line=0.2, dashes=(0.8, 0.6))
    sheet.words(x + 6, y + 18, "cut off", size=8)
    return y + 7 + tall + 5


def _section(sheet: Sheet, x: float, y: float, width: float, title: str) -> float:
    end = sheet.paragraph(x, y, width, title, size=11.5, style="B", colour=BLUE)
    return end + 0.8


def _list(sheet: Sheet, x: float, y: float, width: float, items: Sequence[str], *, numbered: bool = False) -> float:
    for number, item in enumerate(items, 1):
        if numbered:
            sheet.paragraph(x, y, 5, f"**{number}**", colour=BLUE)
        else:
            sheet.box(x + 0.6, y + 1.5, 1.4, 1.4, fill=BLUE, line=0)
        y = sheet.paragraph(x + 5, y, width - 5, item) + 1.2
    return y


def _code(sheet: Sheet, x: float, y: float, width: float, lines: Sequence[str]) -> float:
    top = y
    for line in lines:
        y = sheet.paragraph(x + CODE_INDENT, y, width - CODE_INDENT, line or " ", size=CODE_SIZE, family="code")
    sheet.box(x, top, 0.9, y - top, fill=PALE, line=0)
    return y
