"""Formulas as pictures, so that slides need no MathJax: TeX in a text becomes SVG."""

import base64
import re
from html import escape

CODE_OR_FORMULA = re.compile(r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
SIZE = 10.0  # points of the font that is drawn; the picture scales with the text around it
NOT_KNOWN = {r"\lVert": r"\Vert", r"\rVert": r"\Vert"}  # to matplotlib, and what it knows instead


def with_formulas_drawn(text: str) -> str:
    """A Markdown text in which each formula is a picture; what stands in code stays as it is.

    Raises `ValueError` for TeX that matplotlib cannot draw.
    """

    def drawn(match: re.Match[str]) -> str:
        code, displayed, inline = match.groups()
        if code is not None:
            return code
        picture = formula(" ".join((displayed or inline).split()))
        return f'<div class="formula">{picture}</div>' if displayed else picture

    return CODE_OR_FORMULA.sub(drawn, text)


def formula(tex: str) -> str:
    """One formula as an HTML image, as large as the text around it and on its line.

    >>> formula(r"\\frac{\\alpha}{b}").startswith('<img class="math" alt="')
    True
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath, text_to_path

    known = tex
    for name, other in NOT_KNOWN.items():
        known = known.replace(name, other)
    font = FontProperties(size=SIZE, math_fontfamily="cm")
    width, height, below = text_to_path.get_text_width_height_descent(f"${known}$", font, ismath=True)
    path = TextPath((0, 0), f"${known}$", prop=font)
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    steps = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = "" if code == Path.CLOSEPOLY else " ".join(f"{number:.2f}" for number in points)
        steps.append(letters[code] + numbers)
    pad = 0.05 * SIZE
    box = f"{-pad:.2f} {below - height - pad:.2f} {width + 2 * pad:.2f} {height + 2 * pad:.2f}"
    drawn = f'<path transform="scale(1 -1)" d="{"".join(steps)}"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{drawn}</svg>'
    source = base64.b64encode(svg.encode()).decode()
    tall, deep = (height + 2 * pad) / SIZE, (below + pad) / SIZE
    style = f"height:{tall:.3f}em;width:auto;vertical-align:{-deep:.3f}em"
    return f'<img class="math" alt="{escape(tex)}" style="{style}" src="data:image/svg+xml;base64,{source}">'
