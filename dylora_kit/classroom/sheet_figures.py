"""Two figures for paper: the accuracy by rank, and what of the two matrices rank b reads."""

from collections.abc import Mapping

from dylora_kit.classroom.sheet import BLACK, BLUE, GREY, PALE, Sheet

DYLORA, CUT = "DyLoRA", "LoRA, cut to b"


def curves(sheet: Sheet, x: float, y: float, width: float, height: float, means: Mapping[str, list[float]]) -> None:
    """Draws one line for each method; they differ in mark and dashes, so that colour is not needed.

    Arguments:
        means: percent at rank 1 to r, for "DyLoRA" and "LoRA, cut to b".
    """
    left, below = x + 9, y + height - 8
    r = len(means[DYLORA])

    def at(rank: int, percent: float) -> tuple[float, float]:
        return left + 4 + (width - 15) * (rank - 1) / (r - 1), below - (below - y - 2) * percent / 100

    for percent in (0, 25, 50, 75, 100):
        level = at(1, percent)[1]
        sheet.line([(left, level), (x + width, level)], colour=PALE if percent else GREY, width=0.2 if percent else 0.3)
        sheet.words(left - 1.5, level + 1, f"{percent}", size=7, colour=GREY, align="R")
    for rank in range(1, r + 1):
        sheet.words(at(rank, 0)[0], below + 4, f"{rank}", size=7.5, align="C")
    sheet.words(left + (width - 9) / 2, below + 7.6, "rank b", size=7.5, colour=GREY, align="C")
    cut, ours = ([at(rank, percent) for rank, percent in enumerate(means[name], 1)] for name in (CUT, DYLORA))
    sheet.line(cut, colour=BLACK, width=0.5, dashes=(1.6, 1.1))
    for place in cut:
        sheet.box(place[0] - 1.05, place[1] - 1.05, 2.1, 2.1, fill=(255, 255, 255), line=0.4)
    sheet.line(ours, colour=BLUE, width=0.8)
    for place in ours:
        sheet.dot(*place, 1.15, fill=BLUE, colour=BLUE)
    sheet.words(ours[1][0], ours[1][1] + 6.2, "DyLoRA", size=8.5, style="B", colour=BLUE)
    sheet.words(cut[3][0] + 3, cut[3][1] + 2.6, "plain LoRA, cut to b", size=8.5, style="B")


def matrices(sheet: Sheet, x: float, y: float, height: float, *, r: int, b: int) -> float:
    """Draws h = W₀x + α/b · B[:, :b] A[:b] x as boxes: what is read is filled, what is cut is dashed.

    Returns the width of the figure.
    """
    step = height / 17  # of one row or column
    middle = y + height / 2
    place = x + sheet.words(x, middle + 1.6, "h  =", size=12, family="formula", style="I") + 2
    sheet.box(place, y, height, height, fill=PALE, colour=GREY)
    end = sheet.words(place + height / 2 - 1, middle + 0.5, "W", size=15, family="formula", style="I", align="C") / 2
    sheet.words(place + height / 2 - 1 + end, middle + 1.6, "0", size=9, family="formula")
    sheet.words(place + height / 2, middle + 5.5, "frozen", size=7.5, colour=GREY, align="C")
    place += height + 2
    place += sheet.words(place, middle + 1.6, "x  +", size=12, family="formula", style="I") + 2
    _fraction(sheet, place + 2.5, middle, "α", "b")
    place += 7
    _strips(sheet, place, y, step, height, r, b, upright=True)
    sheet.words(place + r * step / 2, y + height + 4.6, "B", size=12, family="formula", style="I", align="C")
    place += r * step + 3
    top = middle - r * step / 2
    _strips(sheet, place, top, step, height, r, b, upright=False)
    sheet.words(place + height / 2, top + r * step + 4.6, "A", size=12, family="formula", style="I", align="C")
    sheet.words(place + height / 2, top - 1.8, f"b = {b} of r = {r} rows", size=7.5, colour=GREY, align="C")
    place += height + 2
    place += sheet.words(place, middle + 1.6, "x", size=12, family="formula", style="I")
    return place - x


def _strips(sheet: Sheet, x: float, y: float, step: float, length: float, r: int, b: int, *, upright: bool) -> None:
    """The r columns or rows of a matrix: the first b filled, the others empty and dashed."""
    for number in range(r):
        used = number < b
        place = (x + number * step, y, step * 0.68, length) if upright else (x, y + number * step, length, step * 0.68)
        if used:
            sheet.box(*place, fill=BLUE, colour=BLUE, line=0.2)
        else:
            sheet.box(*place, colour=GREY, line=0.2, dashes=(0.7, 0.5))


def _fraction(sheet: Sheet, x: float, y: float, above: str, below: str) -> None:
    sheet.words(x, y - 1.2, above, size=12, family="formula", style="I", align="C")
    sheet.line([(x - 2, y + 0.2), (x + 2, y + 0.2)], width=0.3)
    sheet.words(x, y + 4.4, below, size=12, family="formula", style="I", align="C")
