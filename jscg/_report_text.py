"""A variance report as plain text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from ._advice import short
from ._alternatives import distinct

_WIDTH = 96
_ROWS = 12


def text_of(report: Any, full: bool) -> str:
    """The tables of a report, one under the other."""
    samples = f" of {report.num_samples} samples each" if report.num_samples > 1 else ""
    lines = [f"variance of the gradient: {report.variance:.4g} in {report.num_estimates} estimates"]
    lines[0] += samples
    lines += ["", *_draws(report.draws, full), "", *_parameters(report.parameters, full)]
    if report.alternatives:
        lines += ["", *_alternatives(report.alternatives, full)]
    if report.refused:
        lines += _refused(report.refused, full)
    lines += ["", *textwrap.wrap(report.recommendation, _WIDTH, break_long_words=False)]
    if report.code:
        code = textwrap.wrap(
            report.code,
            _WIDTH,
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += ["", *code]
    return "\n".join(lines)


def _draws(draws: Any, full: bool) -> list[str]:
    rows: list[tuple[str, ...]] = [("draw", "share", "+-", "sampler", "how", "where")]
    for d in draws:
        size = f"[{', '.join(map(str, d.shape))}]" if d.shape else ""
        share = "?" if math.isnan(d.share) else _percent(d.share)
        error = d.note if d.note and full else "" if d.note else _percent(2 * d.standard_error)
        family = f"{d.family}{size}"
        rows.append((d.name, share, error, family, d.estimated, short(d.where)))
    note = "(the part of the variance that would go if the draw were averaged out"
    measured = [d for d in draws if not math.isnan(d.share)]
    error = 2 * math.hypot(*(d.standard_error for d in measured))
    if len(measured) > 1 and sum(d.share for d in measured) > 1 + error:
        note += "; more than 100 % in all, because draws interact"
    return [*_table(rows, "lrrlll", full, 24), *textwrap.wrap(f"{note})", _WIDTH)]


def _parameters(parameters: Any, full: bool) -> list[str]:
    rows: list[tuple[str, ...]] = [("parameter", "norm", "deviation", "signal/noise", "+-", "")]
    for p in parameters:
        size = f"[{', '.join(map(str, p.shape))}]" if p.shape else ""
        remark = "" if p.distinguishable else "not distinguishable from zero"
        numbers = (p.norm, p.deviation, p.snr, 2 * p.standard_error)
        rows.append((f"{p.path}{size}", *map(_number, numbers), remark))
    return _table(rows, "lrrrrl", full)


def _alternatives(alternatives: Any, full: bool) -> list[str]:
    rows: list[tuple[str, ...]] = [("instead", "for", "variance", "+-", "work", "product", "")]
    for a in alternatives if full else distinct(alternatives):
        numbers = (a.variance, 2 * a.standard_error, a.work, a.product)
        change = a.change.removeprefix("jscg.estimators.")
        rows.append((change, a.draw, *map(_ratio, numbers), "better" if a.better else ""))
    note = (
        "(ratios to the present choice; a product below 1 means less variance in the same time, "
        "and 'better' that it is below 0.9 even with all of +-: work is rough)"
    )
    return [*_table(rows, "llrrrrl", full), *textwrap.wrap(note, _WIDTH)]


def _refused(refused: Any, full: bool) -> list[str]:
    if not full:
        return [f"not measured: {len(refused)}, see report.text(full=True)"]
    lines = ["", "not measured"]
    for r in refused:
        what = r.change.removeprefix("jscg.estimators.") + (f" for {r.draw}" if r.draw else "")
        lines += textwrap.wrap(f"{what}: {r.reason}", _WIDTH, subsequent_indent="    ")
    return lines


def _table(rows: Sequence[tuple[str, ...]], sides: str, full: bool, first: int = 34) -> list[str]:
    """Rows under a head, in columns; only the first of many."""
    hidden = 0 if full else max(0, len(rows) - 1 - _ROWS)
    rows = rows[: len(rows) - hidden]
    cells = [
        [c if full else _clipped(c, 20 if i else first) for i, c in enumerate(r)] for r in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        laid = [
            c.rjust(w) if side == "r" else c.ljust(w)
            for c, w, side in zip(row, widths, sides, strict=True)
        ]
        lines.append("  ".join(laid).rstrip())
    return lines + ([f"... {hidden} more rows: report.text(full=True)"] if hidden else [])


def _clipped(cell: str, most: int) -> str:
    """A cell that leaves room for the others."""
    return cell if len(cell) <= most else f"{cell[: most - 3]}..."


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _number(x: float) -> str:
    return "" if math.isnan(x) else f"{x:.3g}"


def _ratio(x: float) -> str:
    return "0" if abs(x) < 5e-4 else _number(x)
