"""Writes a laid out diagram as SVG: attributes only, so that every program that reads SVG agrees.

The colours for dark surroundings are the one style sheet, which a browser may apply.
"""

from __future__ import annotations

import hashlib
from xml.sax.saxutils import escape

from ._diagram import Diagram, Edge, Item
from ._layout import BACK, Placed
from ._shapes import LINE, SMALL_LETTER, half_widths

# For each way of estimating: fill and line, on light and on dark ground.
STYLES = {
    "scored": ("#fde3cb", "#b3530a", "#4a2a10", "#f2a35e"),
    "enumerated": ("#d8efd8", "#2b7a30", "#173a1a", "#7fcf85"),
    "outcomes compared": ("#e9dff6", "#66399b", "#33204b", "#bd98e8"),
    "pathwise": ("#d8e8fa", "#1d5fa6", "#14304e", "#7db6ee"),
    "relaxed, BIASED": ("#f9d6d5", "#b3211c", "#4d1614", "#f0837f"),
    "no score needed": ("#f0f0f0", "#777777", "#2c2c2c", "#a5a5a5"),
    "": ("#ffffff", "#333333", "#1e1e1e", "#cccccc"),
}
INK, FAINT, GROUND = ("#1c1c1c", "#e6e6e6"), ("#6b6b6b", "#9d9d9d"), ("#ffffff", "#181818")
FONT = "font-family='Helvetica, Arial, sans-serif'"


def write(diagram: Diagram, placed: Placed, theme: str, background: bool) -> str:
    """The SVG document.

    Args:
      diagram: what to show.
      placed: where.
      theme: "light", "dark", or "auto" for what the reader's browser prefers.
      background: whether to fill the ground.
    """
    legend, room = _legend(diagram, placed)
    width = max(placed.width, room)
    height = placed.height + (LINE + 8 if legend else 0)
    parts = []
    if background:
        parts.append(f"<rect class='ground' width='100%' height='100%' rx='6' fill='{GROUND[0]}'/>")
    boxes = sorted(placed.boxes.items(), key=lambda item: len(item[0].path))
    parts += [_box(box.caption, box.loop, *place) for box, place in boxes]
    parts += [_arrow(edge, placed) for edge in diagram.edges]
    parts += [_item(item, *placed.at[item]) for item in diagram.items]
    parts += legend
    name = "jscg" + hashlib.sha256("".join(parts).encode()).hexdigest()[:8]
    body = "\n".join(parts)
    if theme == "dark":
        for light, dark in _pairs():
            body = body.replace(f"'{light}'", f"'{dark}'")
    style = _style(name) if theme == "auto" else ""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' class='{name}' width='{width:.0f}' "
        f"height='{height:.0f}' viewBox='0 0 {width:.0f} {height:.0f}' {FONT} role='img'>\n"
        f"<title>stochastic computation graph</title>\n{style}{body}\n</svg>\n"
    )


def _pairs() -> list[tuple[str, str]]:
    """Every colour on light ground with the one that takes its place on dark ground."""
    lines = [(line, dark) for _, line, _, dark in STYLES.values()]
    fills = [(fill, dark) for fill, _, dark, _ in STYLES.values()]
    return list(dict([GROUND, INK, FAINT, *lines, *fills[:-1]]).items())


def _style(name: str) -> str:
    """Which of two colours: that of the page around where there is one, and else the reader's."""
    rules = "".join(
        f".{name} [{kind}='{light}']{{{kind}:light-dark({light},{dark})}}"
        for light, dark in _pairs()
        for kind in ("fill", "stroke")
    )
    return f"<style>svg:root{{color-scheme:light dark}}{rules}</style>\n"


def _text(x: float, y: float, text: str, size: int, more: str = "", ink: str = INK[0]) -> str:
    look = f"font-size='{size}' fill='{ink}' {more}"
    return f"<text x='{x:.1f}' y='{y:.1f}' {look}>{escape(text)}</text>"


_MIDDLE = "text-anchor='middle'"
_HALO = f"stroke='{GROUND[0]}' stroke-width='3' paint-order='stroke'"  # above arrows


def _box(caption: str, loop: bool, x: float, y: float, width: float, height: float) -> str:
    dashes = "" if loop else " stroke-dasharray='2 3'"
    ink = FAINT[0]
    frame = (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' rx='8' "
        f"fill='none' stroke='{ink}'{dashes}/>"
    )
    return frame + _text(x + 8, y + 14, caption, 10, ink=ink)


def _item(item: Item, x: float, y: float) -> str:
    fill, line, *_ = STYLES.get(item.style, STYLES[""])
    half, height = half_widths(item)
    colours = f"fill='{fill}' stroke='{line}' stroke-width='1.4'"
    shape, more = "", _MIDDLE
    if item.kind == "stochastic":
        shape = f"<ellipse cx='{x:.1f}' cy='{y:.1f}' rx='{half:.1f}' ry='{height:.1f}' {colours}/>"
    elif item.kind == "cost":
        points = f"{x - half:.1f},{y:.1f} {x:.1f},{y - height:.1f} "
        points += f"{x + half:.1f},{y:.1f} {x:.1f},{y + height:.1f}"
        shape = f"<polygon points='{points}' {colours}/>"
    elif item.kind == "deterministic":
        shape = (
            f"<rect x='{x - half:.1f}' y='{y - height:.1f}' width='{2 * half:.1f}' "
            f"height='{2 * height:.1f}' {colours}/>"
        )
    else:
        more += " font-style='italic'" + (" font-weight='bold'" if item.style == "active" else "")
    parts = [f"<title>{escape(item.tip)}</title>" if item.tip else "", shape]
    parts.append(_text(x, y + 4.5, item.label, 13, more))
    for i, note in enumerate(item.notes):
        below = y + height + LINE * (i + 1) - 2
        parts.append(_text(x, below, note, 10, f"{_MIDDLE} {_HALO}", FAINT[0]))
    return f"<g>{''.join(parts)}</g>"


def _arrow(edge: Edge, placed: Placed) -> str:
    start, end = placed.at[edge.source], placed.at[edge.target]
    if edge.before:
        return _back(edge, start, end, placed)
    points = [start, *placed.routes[edge], end]
    points[0] = _border(edge.source, start, points[1])
    points[-1] = _border(edge.target, end, points[-2])
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        bend = (x1 - x0) / 2  # every arrow passes its points horizontally
        path += f" C{x0 + bend:.1f},{y0:.1f} {x1 - bend:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
    return _line(path) + _head(*points[-1], 1.0, 0.0)


def _back(edge: Edge, start, end, placed: Placed) -> str:
    """An arrow to the next step of a loop: dashed, above the items between."""
    (x0, y0), (x1, y1) = start, end
    y0, y1 = y0 - half_widths(edge.source)[1], y1 - half_widths(edge.target)[1]
    if edge.source is edge.target:
        x0, x1 = x0 + 8, x1 - 8
    over = [
        y - half_widths(item)[1]
        for item, (x, y) in placed.at.items()
        if min(x0, x1) < x < max(x0, x1) and item.boxes[:1] == edge.source.boxes[:1]
    ]
    # A curve reaches three quarters of the way to its points.
    top = min(y0, y1) - BACK if not over else (min(*over, y0, y1) - 8 - (y0 + y1) / 8) * 4 / 3
    path = f"M{x0:.1f},{y0:.1f} C{x0:.1f},{top:.1f} {x1:.1f},{top:.1f} {x1:.1f},{y1:.1f}"
    return _line(path, " stroke-dasharray='4 3'") + _head(x1, y1, 0.0, 1.0)


def _line(path: str, more: str = "") -> str:
    return f"<path d='{path}' fill='none' stroke='{FAINT[0]}' stroke-width='1.1'{more}/>"


def _head(x: float, y: float, dx: float, dy: float) -> str:
    """An arrow's head that points to (x, y); no marker, which some programs do not draw."""
    points = [(x, y)]
    for side in (-3.2, 3.2):
        points.append((x - 8 * dx + side * dy, y - 8 * dy + side * dx))
    text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f"<polygon points='{text}' fill='{FAINT[0]}'/>"


def _border(item: Item, centre, towards) -> tuple[float, float]:
    """Where an arrow leaves or meets an item: at its side."""
    half, _ = half_widths(item)
    x, y = centre
    return (x + half, y) if towards[0] > x else (x - half, y)


def _legend(diagram: Diagram, placed: Placed) -> tuple[list[str], float]:
    """What the colours say, for those that are there, and the room that it takes."""
    there = {v.style for v in diagram.items if v.kind == "stochastic"}
    x, y = 14.0, placed.height + 4
    parts = []
    for name, (fill, line, *_) in STYLES.items():
        if name and name in there:
            parts.append(
                f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' fill='{fill}' stroke='{line}'/>"
                + _text(x + 9, y + 3.5, name, 10, ink=FAINT[0])
            )
            x += 26 + SMALL_LETTER * len(name)
    if any(e.before for e in diagram.edges):
        text = "from the step before"
        parts.append(
            _line(f"M{x - 4:.1f},{y:.1f} h22", " stroke-dasharray='4 3'")
            + _text(x + 23, y + 3.5, text, 10, ink=FAINT[0])
        )
        x += 34 + SMALL_LETTER * len(text)
    return parts, x
