"""The cards about the matrices of an adapter: the factors, the singular values, the ordering of the rows."""

import math

from dylora_kit.core.targets import short_names
from dylora_kit.widgets.svg_cards.scene import Scene
from dylora_kit.widgets.svg_cards.shapes import box, head, text

OUTLINE = "fill:none;stroke:var(--ink);stroke-dasharray:3 2;opacity:.75"
NAME_LETTERS = 18  # of a name in a legend


def matrices_card(scene: Scene) -> str:
    """W₀, B and A of one layer, drawn to scale, as SVG: what is read at the active rank is filled."""
    layer = scene.layer
    assert layer is not None
    unit = 136 / max(layer.d_in, layer.d_out)
    height, width, whole, used = layer.d_out * unit, layer.d_in * unit, layer.r * unit, layer.rank * unit
    top, x = 82, 30.0
    pale = "fill:none;stroke:var(--soft);stroke-dasharray:3 3"
    solid = f"fill:{scene.colour};stroke:{scene.colour}"
    out = [head("What the layer computes", "h = W₀x + scale · B[:, :b] · A[:b] · x, drawn to scale")]
    middle, below = top + height / 2, top + max(height, 60) + 22
    out.append(box(x, top, width, height, "fill:var(--line);fill-opacity:.5;stroke:var(--line)"))
    out.append(text(x + width / 2, middle + 6, "W₀", "head mid"))
    out.append(text(x + width / 2, below, f"{layer.d_out} × {layer.d_in}, frozen", "soft mid"))
    x += width + 26
    out.append(text(x, middle + 6, "+", "head mid"))
    x += 26
    out += [box(x, top, whole, height, pale), box(x, top, used, height, solid)]
    out.append(text(x + whole / 2, top - 9, "B", "head mid"))
    out.append(text(x + whole / 2, below, f"{layer.d_out} × {layer.rank}", "b mid"))
    x += whole + 24
    out.append(text(x, middle + 6, "·", "head mid"))
    x += 22
    out += [box(x, middle - whole / 2, width, whole, pale), box(x, middle - whole / 2, width, used, solid)]
    out.append(text(x + width / 2, middle - whole / 2 - 9, "A", "head mid"))
    out.append(text(x + width / 2, below, f"{layer.rank} × {layer.d_in}", "b mid"))
    out.append(
        text(
            18,
            below + 27,
            f"scale {layer.scaling} = {layer.scale:.2f}  ·  dashed rows and columns are not read",
            "soft",
        )
    )
    return "".join(out)


def spectrum_card(scene: Scene) -> str:
    """The singular values of one layer's ΔW at the active rank, as SVG; outlined, those at rank r and of a rival.

    The scale is the same at all ranks, so that a bar that stays is drawn as it was.
    """
    layer = scene.layer
    assert layer is not None
    left, top, height, whole = 52, 64, 112, 402
    width = min(50.0, whole / layer.r)
    now, full, rival = (values if all(map(math.isfinite, values)) else () for values in
                        (layer.now, layer.full, layer.rival))  # fmt: skip
    most = 1.08 * layer.most if math.isfinite(layer.most) and layer.most > 0 else 1.0  # room above the tallest bar
    step = _round_step(most / 2)
    out = [head("Singular values of ΔW", f"layer {layer.name}")]
    base, rim = top + height, _rim(scene) if scene.rival is not None else ""
    for tick in range(1, math.floor(most / step + 1e-9) + 1):
        y = base - tick * step / most * height
        line = f'<line x1="{left - 6}" x2="{left + whole}" y1="{y}" y2="{y}"'
        out.append(f'{line} style="stroke:var(--line);opacity:.7"/>')
        out.append(text(left - 9, y + 4, f"{tick * step:g}", "soft end"))
    for index in range(layer.r):
        x, used = left + index * width, index < layer.rank
        for values, look in ((now, _solid(scene.colour)), (full, OUTLINE), (rival, rim)):
            length = height * values[index] / most if index < len(values) else 0
            if length > 0:
                out.append(box(x, base - length, 0.68 * width, length, look))
        if layer.r <= 16 or index in (0, layer.r - 1):
            out.append(text(x + 0.34 * width, base + 17, str(index + 1), "b mid" if used else "soft mid"))
    out.append(f'<line x1="{left - 6}" x2="{left + whole}" y1="{base}" y2="{base}" style="stroke:var(--line)"/>')
    if len(full) < len(layer.full):
        out.append(text(left, top + 30, "not finite", "b"))
    return "".join([*out, *_spectrum_legend(scene, base + 34)])


def _round_step(most: float) -> float:
    """The largest of … 0.1, 0.2, 0.5, 1, 2, 5 … that is not above a number.

    >>> _round_step(0.47), _round_step(1.19), _round_step(37.0)
    (0.2, 1.0, 20.0)
    """
    power = 10.0 ** math.floor(math.log10(most))
    return round(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)), 12)


def _solid(colour: str) -> str:
    return f"fill:{colour};stroke:{colour}"


def _rim(scene: Scene) -> str:
    """The look of a rival's bars: its colour around them, and nothing inside."""
    assert scene.rival is not None
    return f"fill:none;stroke:var(--dk-{scene.series[scene.rival].kind});stroke-width:2.5"


def _spectrum_legend(scene: Scene, y: float) -> list[str]:
    """What the filled bars are, and the outlined ones, in one line."""
    layer = scene.layer
    assert layer is not None
    entries = [(_solid(scene.colour), f"{_short(scene.series[scene.active].name)}, rank {layer.rank}")]
    if layer.rank < layer.r:
        entries.append((OUTLINE, f"rank {layer.r}"))
    if scene.rival is not None and layer.rival:
        finite = all(map(math.isfinite, layer.rival))
        told = f"rank {len(layer.rival)}" if finite else "not finite"
        entries.append((_rim(scene), f"{_short(scene.series[scene.rival].name)}, {told}"))
    x, out = 18.0, []
    for look, words in entries:
        out += [box(x, y, 12, 12, look), text(x + 18, y + 11, words, "soft")]
        x += 34 + 6.3 * len(words)
    return out


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…"


def ordering_card(scene: Scene) -> str:
    """The ordering scores as a table, a line for each layer and a column for each rank, as SVG."""
    left, top, width, height = 96, 84, 352, 160
    names, cell_width = short_names(list(scene.ordering)), width / scene.r
    cell_height = height / max(len(scene.ordering), 1)
    out = [head("Ordering", "energy that the first b rows hold, in % of the best rank-b choice")]
    for rank in range(1, scene.r + 1):
        active = rank == scene.rank
        if scene.r <= 16 or rank in (1, scene.rank, scene.r):
            out.append(text(left + (rank - 0.5) * cell_width, top - 8, str(rank), "b mid" if active else "soft mid"))
    for line, (name, scores) in enumerate(zip(names, scene.ordering.values(), strict=True)):
        y = top + line * cell_height
        if cell_height >= 11:
            out.append(text(left - 10, y + cell_height / 2 + 4, name, "soft end"))
        for column, score in enumerate(scores):
            x = left + column * cell_width
            look = f"fill:{scene.colour};fill-opacity:{0.5 * score**2:.2f};stroke:var(--line)"
            out.append(box(x, y, cell_width, cell_height, look))
            if cell_height >= 14 and scene.r <= 12:
                out.append(text(x + cell_width / 2, y + cell_height / 2 + 4, f"{100 * score:.0f}", "tiny mid"))
    if not scene.ordering:
        out.append(text(left, top + height / 2, "not finite", "b"))
    x = left + (scene.rank - 1) * cell_width
    out.append(box(x, top, cell_width, height, "fill:none;stroke:var(--ink);stroke-width:2.5"))
    out.append(text(left, top + height + 22, "100 = as good as the best matrix of rank b", "soft"))
    return "".join(out)
