"""What another estimator, or more samples, would do to the variance and to the work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._choices import Asked, Candidate, Choice
from ._errors import JscgError
from ._estimates import Arguments, Chunks, Gradient, Tally, once, ratio
from ._last import passing_over
from ._progress import Progress

MOST_WORK = 100  # times the present one; above that only what was asked for is measured


@dataclasses.dataclass(frozen=True)
class Alternative:
    """Another choice, measured with the same keys.

    Attributes:
      draw: the draw that gets another estimator; "all draws", or empty where it is the number of
        samples that differs.
      change: the other choice, as it is written.
      code: the arguments of `grad_expectation` to make it.
      variance: of the gradient, relative to that of the present choice.
      standard_error: of that ratio.
      work: arithmetic of one gradient, relative to that of the present choice (see `jscg._work`:
        scalar operations of the traced gradient, every step of a `scan` counted).
    """

    draw: str
    change: str
    code: str
    variance: float
    standard_error: float
    work: float

    @property
    def product(self) -> float:
        """Variance times work: what counts, as twice the estimates have half the variance."""
        return self.variance * self.work

    @property
    def better(self) -> bool:
        """Whether the product is below one, by two standard errors and a tenth: work is rough."""
        return self.work * (self.variance + 2 * self.standard_error) < 0.9

    @property
    def worse(self) -> bool:
        """Whether the product is above one, by two standard errors and a tenth."""
        return self.work * (self.variance - 2 * self.standard_error) > 1.1


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A choice that was not measured.

    Attributes:
      draw: see `Alternative`.
      change: see `Alternative`.
      reason: why not.
    """

    draw: str
    change: str
    reason: str


def distinct(alternatives: Sequence[Alternative]) -> list[Alternative]:
    """The first of those that do the same to the same draw here."""
    found: dict[Any, Alternative] = {}
    for a in alternatives:
        found.setdefault((a.draw, a.variance, a.work), a)
    return list(found.values())


class Trials:
    """Measures other choices, with the keys of the present one."""

    def __init__(
        self,
        asked: Asked,
        present: Choice,
        arguments: Arguments,
        chunks: Chunks,
        base: Tally,
        progress: Progress,
    ):
        self.asked, self.arguments, self.chunks = asked, arguments, chunks
        self.base, self.progress = base, progress
        self.present = once(arguments, asked.gradient(present))
        # Choices often come to the same: a baseline, say, where there is none to be had.
        self.known: dict[str, Tally] = {}

    def __call__(self, found: Sequence[Candidate]) -> list[Alternative | Refusal]:
        """Measures them all."""
        rounds, out = self.chunks.rounds, []
        self.progress.expect(rounds * len(found))
        for candidate in found:
            before = len(self.known)
            out.append(self.measure(candidate))
            if len(self.known) == before:
                self.progress.step(rounds)
        return out

    def measure(self, candidate: Candidate) -> Alternative | Refusal:
        """Estimates the gradient with another choice."""
        refusal = Refusal(candidate.draw, candidate.change, candidate.reason)
        if candidate.reason:
            return refusal
        gradient = self.asked.gradient(candidate.choice)
        try:
            with passing_over():  # it becomes a row of the report
                one = once(self.arguments, gradient)
        except JscgError as error:
            return dataclasses.replace(refusal, reason=_first_line(error))
        if one.text == self.present.text:
            return dataclasses.replace(refusal, reason="it is what is done at present")
        work = one.work / self.present.work if self.present.work else math.nan
        if work > MOST_WORK and not candidate.wanted:
            reason = f"it is {work:.0f} times the work: name it in `alternatives` to measure it"
            return dataclasses.replace(refusal, reason=reason)
        if one.text not in self.known:
            self.known[one.text] = self._run(gradient, one.numbers)
        kept, base = self.known[one.text], self.base
        squares = [np.sum(tally.squares, 0) for tally in (kept, base)]
        variance, error = ratio(kept.variance, base.variance, *squares)
        code = candidate.choice.code
        return Alternative(candidate.draw, candidate.change, code, variance, error, work)

    def _run(self, gradient: Gradient, numbers: int) -> Tally:
        run, kept = self.chunks.compiled(gradient, numbers), Tally(self.base.centre)
        for i in range(self.chunks.rounds):
            kept.add(run(i))
            self.progress.step()
        return kept


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("jscg: ")
