"""What a report recommends, in words and as code."""

from __future__ import annotations

from collections.abc import Sequence

from ._alternatives import Alternative
from ._choices import ALL, Asked
from ._estimates import Tally
from ._nodes import SCORED
from ._shares import DrawShare
from ._signal import ParameterSignal


def advice(
    asked: Asked,
    draws: Sequence[DrawShare],
    signals: Sequence[ParameterSignal],
    alternatives: Sequence[Alternative],
    base: Tally,
) -> tuple[str, str]:
    """The sentences, and the code of what they recommend, if they do."""
    if not base.variance:
        return "The gradient is the same in all estimates: there is no variance to lower.", ""
    sentences = [
        *_of_draws(draws, {a.draw for a in alternatives}),
        *_of_signals(signals, base.count),
    ]
    better = [a for a in alternatives if a.better]
    best = min(better, key=lambda a: a.work * (a.variance + 2 * a.standard_error), default=None)
    lowest = min(alternatives, key=lambda a: a.variance + 2 * a.standard_error, default=None)
    if lowest is not None and lowest is not best:
        if lowest.variance + 2 * lowest.standard_error < 0.98:
            verdict = "worth it, but less so" if lowest.better else _no_gain(lowest)
            sentences.append(f"{_effect(lowest)}: {verdict}.")
    if best is not None:
        rest = ", if the work that it saves goes into more samples" if best.variance > 1 else ""
        sentences.append(f"{_effect(best)}: worth it{rest}.")
        return " ".join(sentences), asked.code(best.code)
    if alternatives:
        sentences.append(
            "None of the alternatives that were measured is clearly better at equal work than the "
            "present choice."
        )
    return " ".join(sentences), ""


def _of_draws(draws: Sequence[DrawShare], tried: set[str]) -> list[str]:
    measured = [d for d in draws if d.share == d.share]
    if not measured:
        return []
    top = measured[0]
    share, error = 100 * min(top.share, 1.0), 200 * top.standard_error
    first = (
        f"{share:.0f} % of the variance (+- {error:.0f}) would vanish if {top.name!r} "
        f"({short(top.where)}) were averaged out."
    )
    if top.verdict == SCORED or top.name in tried:
        return [first]
    return [first, "It is not scored: no estimator of it changes that, more samples do."]


def _of_signals(signals: Sequence[ParameterSignal], n: int) -> list[str]:
    lost = [s.path for s in signals if not s.distinguishable]
    if not lost:
        return []
    names = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
    return [f"The gradient of {names} is not distinguishable from zero in {n} estimates."]


def _effect(a: Alternative) -> str:
    what = f"{a.change} for {a.draw if a.draw == ALL else repr(a.draw)}" if a.draw else a.change
    if not a.variance:
        effect = "leaves no variance"
    elif abs(a.variance - 1) < 0.01:
        effect = "leaves the variance as it is"
    elif a.variance < 1:
        effect = f"lowers the variance {1 / a.variance:.3g} times"
    else:
        effect = f"raises the variance {a.variance:.3g} times"
    return f"{what} {effect} at {a.work:.3g} times the work"


def _no_gain(a: Alternative) -> str:
    """The verdict on what is not better: whether it is worse, or that is open."""
    return "not worth it" if a.worse else "not clearly worth it"


def short(where: str) -> str:
    """File and line of a place, without folder and column."""
    place = where.split(" (")[0].replace("\\", "/").rsplit("/", 1)[-1]
    parts = place.split(":")
    return ":".join(parts[:2]) if len(parts) > 2 else place
