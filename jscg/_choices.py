"""Which other choices of estimator, or of the number of samples, are worth a look."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from . import estimators as every
from ._api import grad_expectation
from ._errors import ArgumentTypeError
from ._estimates import Gradient
from ._nodes import PATHWISE, SCORED
from ._plan import Plan
from ._redraw import Redrawing
from .estimators import Auto, Estimator, ScoreFunction

MORE_SAMPLES = 4
ALL = "all draws"


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
