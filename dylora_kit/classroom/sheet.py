"""A printed page: A4, fonts that have all letters of a formula, and a QR code, drawn as lines and not as pixels."""

import datetime
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN = 210.0, 297.0, 16.0  # millimetres
BLACK, GREY, PALE = (20, 20, 20), (95, 95, 95), (225, 225, 225)
BLUE = (0, 92, 150)  # dark enough to be read where it is printed in grey
FACES = {
    ("text", ""): "DejaVuSans.ttf",
    ("text", "B"): "DejaVuSans-Bold.ttf",
    ("text", "I"): "DejaVuSans-Oblique.ttf",
    ("code", ""): "DejaVuSansMono.ttf",
    ("code", "B"): "DejaVuSansMono-Bold.ttf",
    ("formula", ""): "STIXGeneral.ttf",
    ("formula", "I"): "STIXGeneralItalic.ttf",
}
PACKAGES = {"fpdf": "fpdf2", "segno": "segno"}


def packages_missing() -> list[str]:
    """What has to be installed before a page can be printed; empty if nothing."""
    return [package for module, package in PACKAGES.items() if find_spec(module) is None]


class Sheet:
    """One A4 page, from the top left corner, in millimetres.

    Arguments:
        title: for whoever searches among files.

    Attributes:
        pdf: the page, to draw on.

    >>> Sheet("A title").paragraph(16, 20, 80, "A **bold** word.", size=10) > 20
    True
    """

    def __init__(self, title: str) -> None:
        from fpdf import FPDF

        self.pdf: Any = FPDF(format="A4", unit="mm")
        self.pdf.set_creation_date(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))  # the same input, the same file
        self.pdf.set_auto_page_break(False)
        self.pdf.set_margin(0)
        self.pdf.c_margin = 0
        self.pdf.set_title(title)
        self.pdf.set_lang("en")
        for (family, style), file in FACES.items():
            self.pdf.add_font(family, style, str(_fonts() / file))
        self.pdf.add_page()

    def paragraph(
        self, x: float, y: float, width: float, text: str, *, size: float = 9.0, family: str = "text", style: str = "",
        colour: Sequence[int] = BLACK, spacing: float = 1.42, align: str = "L",
    ) -> float:  # fmt: skip
        """Writes a text that wraps; `**words**` are bold. Returns where the next line would stand.

        Raises `ValueError` if it ends below the page: a page that is cut off is worse than none.
        """
        self.pdf.set_font(family, style, size)
        self.pdf.set_text_color(*colour)
        self.pdf.set_xy(x, y)
        line = size * spacing * 25.4 / 72
        marked = family == "text"
        self.pdf.multi_cell(width, line, text, markdown=marked, align=align, new_x="LEFT", new_y="NEXT")
        end = float(self.pdf.get_y())
        if end > HEIGHT - 8:
            raise ValueError(f"the page is full, and {text[:40]!r} does not fit: shorten it, or take a smaller font")
        return end

    def words(
        self, x: float, y: float, text: str, *, size: float = 9.0, family: str = "text", style: str = "",
        colour: Sequence[int] = BLACK, align: str = "L",
    ) -> float:  # fmt: skip
        """Writes one line on the height y, from x on, or around x ("C"), or up to x ("R"); returns its width."""
        self.pdf.set_font(family, style, size)
        self.pdf.set_text_color(*colour)
        width = float(self.pdf.get_string_width(text))
        self.pdf.text(x - {"L": 0.0, "C": width / 2, "R": width}[align], y, text)
        return width

    def line(
        self, points: Sequence[tuple[float, float]], *, colour: Sequence[int] = BLACK, width: float = 0.3,
        dashes: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        """Draws a line through points."""
        self.pdf.set_draw_color(*colour)
        self.pdf.set_line_width(width)
        self.pdf.set_dash_pattern(*(dashes or (0, 0)))
        self.pdf.polyline(points)
        self.pdf.set_dash_pattern()

    def box(
        self, x: float, y: float, width: float, height: float, *, fill: Sequence[int] | None = None,
        colour: Sequence[int] = BLACK, line: float = 0.3, dashes: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        """Draws a rectangle, filled or empty; `line=0` leaves its edge out."""
        self.pdf.set_draw_color(*colour)
        self.pdf.set_line_width(line)
        self.pdf.set_dash_pattern(*(dashes or (0, 0)))
        if fill is not None:
            self.pdf.set_fill_color(*fill)
        self.pdf.rect(x, y, width, height, style=("F" if fill is not None else "") + ("D" if line else ""))
        self.pdf.set_dash_pattern()

    def dot(self, x: float, y: float, radius: float, *, fill: Sequence[int], colour: Sequence[int] = BLACK) -> None:
        """Draws a filled circle around a point."""
        self.pdf.set_draw_color(*colour)
        self.pdf.set_fill_color(*fill)
        self.pdf.set_line_width(0.35)
        self.pdf.ellipse(x - radius, y - radius, 2 * radius, 2 * radius, style="FD")

    def qr(self, x: float, y: float, size: float, address: str) -> None:
        """Draws a QR code as squares, which stays sharp at any size; the address can be clicked, too."""
        import segno

        rows = [list(row) for row in segno.make(address, error="m", micro=False).matrix]
        module = size / len(rows)
        self.pdf.set_fill_color(0, 0, 0)
        for number, row in enumerate(rows):
            for start, length in _runs(row):
                self.pdf.rect(x + start * module, y + number * module, length * module, module * 1.01, style="F")
        self.pdf.link(x, y, size, size, address)

    def content(self) -> bytes:
        """The page as a PDF file. Raises `ValueError` if it has become more than one page."""
        if self.pdf.pages_count != 1:
            raise ValueError(f"expected one page, got {self.pdf.pages_count}: shorten its texts")
        return bytes(self.pdf.output())


def _runs(row: Sequence[int]) -> list[tuple[int, int]]:
    """Where dark squares stand side by side, and how many.

    >>> _runs([1, 1, 0, 1])
    [(0, 2), (3, 1)]
    """
    found: list[tuple[int, int]] = []
    for place, dark in enumerate(row):
        if dark and found and sum(found[-1]) == place:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif dark:
            found.append((place, 1))
    return found


def _fonts() -> Path:
    """The fonts that come with matplotlib."""
    from matplotlib import get_data_path

    return Path(get_data_path()) / "fonts" / "ttf"
