"""What another estimator, or more samples, would do to the variance and to the work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import estimators as every
from ._api import grad_expectation
from ._errors import ArgumentTypeError, JscgError
from ._estimates import Arguments, Chunks, Gradient, Tally, once, ratio
from ._last import passing_over
from ._nodes import PATHWISE, SCORED
from ._plan import Plan
from ._progress import Progress
from ._redraw import Redrawing
from .estimators import Auto, Estimator, ScoreFunction

MORE_SAMPLES = 4
MOST_WORK = 100  # times the present one; above that only what was asked for is measured
ALL = "all draws"


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


@dataclasses.dataclass(frozen=True)
class Choice:
    """What `grad_expectation` is asked for.

    Attributes:
      estimators: of the draws.
      num_samples: how many.
    """

    estimators: Estimator | Mapping[str, Estimator] | None
    num_samples: int

    @property
    def code(self) -> str:
        """As arguments."""
        parts = []
        if self.num_samples != 1:
            parts.append(f"num_samples={self.num_samples}")
        if isinstance(self.estimators, Estimator):
            parts.append(f"estimators={written(self.estimators)}")
        elif self.estimators:
            pairs = ", ".join(f"{n!r}: {written(e)}" for n, e in self.estimators.items())
            parts.append(f"estimators={{{pairs}}}")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The function, and what does not change from choice to choice; see `grad_expectation`."""

    fun: Callable
    argnums: int | Sequence[int]
    has_aux: bool
    key_argnums: int | Sequence[int] | None

    def gradient(self, choice: Choice) -> Gradient:
        """The gradient, as a function of the arguments."""
        found = grad_expectation(
            self.fun,
            self.argnums,
            self.has_aux,
            num_samples=choice.num_samples,
            estimators=choice.estimators,
            key_argnums=self.key_argnums,
        )
        return lambda args, _: found(*args)[0] if self.has_aux else found(*args)

    def code(self, choice: str) -> str:
        """The call that makes it."""
        parts = [getattr(self.fun, "__name__", "fun")]
        parts += [f"argnums={self.argnums!r}"] if self.argnums != 0 else []
        parts += ["has_aux=True"] if self.has_aux else []
        parts += [choice] if choice else []
        parts += [] if self.key_argnums is None else [f"key_argnums={self.key_argnums!r}"]
        return f"jscg.grad_expectation({', '.join(parts)})"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A choice to be measured, or one that cannot be made.

    Attributes:
      draw: see `Alternative`.
      change: see `Alternative`.
      choice: what is asked for.
      reason: why it cannot be; empty if it may.
      wanted: whether the user has asked for it, whatever work it is.
    """

    draw: str
    change: str
    choice: Choice
    reason: str = ""
    wanted: bool = False


def defaults() -> list[Estimator]:
    """Every registered estimator that is unbiased, the score function with all its baselines."""
    classes = [getattr(every, name) for name in every.__all__]
    found = [c for c in classes if isinstance(c, type) and issubclass(c, Estimator)]
    plain: list[Estimator] = [ScoreFunction(b) for b in (None, "leave_one_out", "optimal")]
    return plain + [c() for c in found if c not in (Estimator, ScoreFunction) and c().unbiased]


def candidates(
    present: Choice,
    plan: Plan,
    redrawing: Redrawing,
    given: Sequence[Estimator] | None,
) -> list[Candidate]:
    """Other choices: for every scored draw, for all of them, and of the number of samples.

    Draws whose derivative is implicit could be scored, too.

    Args:
      present: the present choice.
      plan: of the program.
      redrawing: its draws.
      given: the estimators to try; `defaults()` if None.
    """
    estimators = defaults() if given is None else list(given)
    for e in estimators:
        if not isinstance(e, Estimator):
            raise ArgumentTypeError(
                "jscg: alternatives must be a list of estimators "
                f"(jscg.estimators.ScoreFunction(), say), but it holds {e!r}."
            )
    if given is not None and not estimators:
        return []
    reached = {n for w in plan.weights.values() for n in w.reasons}
    draws, implicit = {}, {}
    for source in redrawing.sources:
        for node in source.nodes(plan):
            named = [d for d in source.draws if d.var is node.var] or source.draws
            if node.verdict == SCORED and node in reached:
                draws[redrawing.names[named[0].var]] = node
            elif node.verdict == PATHWISE and node.rule.implicit:
                implicit[redrawing.names[named[0].var]] = node
    fixed = _as_mapping(present.estimators, list(draws))
    out = []
    for name, node in (draws | implicit).items():
        for e in estimators:
            if name in implicit and e.continuous_law is None:
                continue
            why_not = None if name in implicit else e.check(node)  # it would be another draw
            reason = "it is biased" if not e.unbiased else why_not or ""
            choice = Choice({**fixed, name: e}, present.num_samples)
            out.append(Candidate(name, written(e), choice, reason, given is not None))
    for e in estimators if len(draws) > 1 else ():
        reason = "it is biased" if not e.unbiased else ""
        alone = not isinstance(present.estimators, Mapping)
        chosen = e if alone else {**fixed, **dict.fromkeys(draws, e)}
        choice = Choice(chosen, present.num_samples)
        out.append(Candidate(ALL, written(e), choice, reason, given is not None))
    if redrawing.sources:
        more = Choice(present.estimators, MORE_SAMPLES * present.num_samples)
        out.append(Candidate("", f"num_samples={more.num_samples}", more))
    return out


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


def written(estimator: Estimator) -> str:
    """An estimator as it is written, without what is so by default."""
    given = [
        f"{f.name}={getattr(estimator, f.name)!r}"
        for f in dataclasses.fields(estimator)
        if f.default is dataclasses.MISSING or getattr(estimator, f.name) != f.default
    ]
    name = type(estimator).__name__
    prefix = "jscg.estimators." if getattr(every, name, None) is type(estimator) else ""
    return f"{prefix}{name}({', '.join(given)})"


def _as_mapping(
    estimators: Estimator | Mapping[str, Estimator] | None, names: list[str]
) -> dict[str, Estimator]:
    if isinstance(estimators, Estimator):
        return dict.fromkeys(names, estimators) if estimators != Auto() else {}
    return dict(estimators or {})


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("jscg: ")
