"""A variance report as a figure."""

from __future__ import annotations

import math
from typing import Any

from ._alternatives import distinct
from ._errors import missing_extra

_ROWS = 12


def plot(report: Any) -> Any:
    """Shares, signal-to-noise ratios and alternatives, one beside the other."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise missing_extra("a plot", "matplotlib") from None
    _, every = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    shares, signals, others = every
    drawn = [d for d in report.draws if not math.isnan(d.share)][:_ROWS]
    _bars(
        shares,
        [d.name for d in drawn],
        [d.share for d in drawn],
        [2 * d.standard_error for d in drawn],
    )
    shares.set_title("share of the variance")
    known = [p for p in report.parameters if math.isfinite(p.snr)][:_ROWS]
    _bars(
        signals,
        [p.path for p in known],
        [p.snr for p in known],
        [2 * p.standard_error for p in known],
    )
    signals.set_title("signal-to-noise ratio")
    rows = [a for a in distinct(report.alternatives) if math.isfinite(a.product)][:_ROWS]
    names = [f"{a.change.removeprefix('jscg.estimators.')} {a.draw}".strip() for a in rows]
    errors = [2 * a.work * a.standard_error for a in rows]
    _bars(others, names, [a.product for a in rows], errors)
    others.axvline(1.0, color="black", linewidth=1)
    others.set_title("variance x work (present: 1)")
    return every


def _bars(axes: Any, names: list[str], sizes: list[float], errors: list[float]) -> None:
    """One bar for each name, the first on top, with two standard errors."""
    places = range(len(names))
    axes.barh(places, sizes, xerr=errors, color="tab:blue", ecolor="0.4", capsize=2)
    axes.set_yticks(places, names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(left=0)
