"""`variance_report`: where the variance of a gradient comes from, and what would lower it."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ._advice import advice
from ._alternatives import Alternative, Refusal, Trials
from ._api import Estimators, options_of
from ._arguments import leaves_for
from ._awaiting import Awaiting
from ._choices import Asked, Choice, candidates
from ._errors import ArgumentError, ArgumentTypeError
from ._estimates import Arguments, Chunks, Gradient, Tally, centre_of, once
from ._progress import Progress
from ._redraw import Redrawing
from ._report_text import text_of
from ._shares import DrawShare, Redrawn, share_of
from ._signal import ParameterSignal, signals
from ._trace import trace
from .estimators import Estimator


@dataclasses.dataclass(frozen=True)
class VarianceReport:
    """What `variance_report` has measured.  Prints as tables.

    Attributes:
      draws: for every draw, its share of the variance, the largest first.
      parameters: for every leaf of the arguments that the gradient is for, its size and noise.
      alternatives: other choices that were measured, the best first.
      refused: choices that were not, and why.
      recommendation: what to do, in words.
      code: `jscg.grad_expectation(...)` with what is recommended; empty where nothing is.
      variance: of one estimate, summed over all elements of the gradient.
      num_estimates: from how many estimates all of this is taken.
      num_samples: of each.
    """

    draws: tuple[DrawShare, ...]
    parameters: tuple[ParameterSignal, ...]
    alternatives: tuple[Alternative, ...]
    refused: tuple[Refusal, ...]
    recommendation: str
    code: str
    variance: float
    num_estimates: int
    num_samples: int

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def text(self, full: bool = False) -> str:
        """The tables, with all rows and all that was refused if they are to be `full`."""
        return text_of(self, full)

    def plot(self) -> Any:
        """Draws shares, signal-to-noise ratios and alternatives with matplotlib.

        Returns:
          An array of three `matplotlib.axes.Axes`; a notebook shows their figure, and
          `matplotlib.pyplot.show()` does elsewhere.

        Raises:
          ImportError: matplotlib is not installed (`pip install 'jscg[report]'`).
        """
        from ._report_plot import plot

        return plot(self)


def variance_report(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_estimates: int = 1000,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
    alternatives: Sequence[Estimator] | None = None,
    progress: bool | None = None,
) -> Callable[..., VarianceReport]:
    """Creates a function that tells where the variance of the gradient comes from.

    It estimates the gradient many times, as `grad_expectation` does, and again with the same keys
    but for one draw, which is drawn anew, for every draw in turn.  Half the mean squared
    difference is the part of the variance that would vanish if that draw were averaged out (the
    total effect of Sobol, as Jansen 1999 estimates it).  Such shares sum to more than one where
    draws interact.  Then it tries other estimators, one draw at a time, all draws at once, and
    more samples, with the same keys, and compares variance and work.

    An estimate that takes twice the work is worth it if it has less than half the variance: the
    mean of two estimates has just that.  So the product of both ratios is what counts.

    Args:
      fun: see `surrogate`.
      argnums: see `surrogate`.
      has_aux: see `surrogate`; auxiliary data is dropped.
      num_estimates: how many gradients are estimated for every row, at least two; a few more where
        they do not fit into equal chunks.
      num_samples: see `surrogate`.
      estimators: see `surrogate`.
      key_argnums: see `surrogate`; needed for legacy uint32 keys.  Estimates differ in the keys,
        and in nothing else.
      alternatives: the estimators to try; an empty list tries nothing.  By default all of
        `jscg.estimators` that are unbiased, but for those that are more than a hundred times the
        work.  Most of the time goes into compiling them: name those that interest you in a large
        program.
      progress: whether to show a progress bar (tqdm); by default if it is installed and the run
        takes more than two seconds.

    Returns:
      A function with the positional arguments of `fun` that returns a `VarianceReport`.  It runs
      compiled chunks of estimates from Python, and cannot be called under `jax.jit`.

    Raises:
      JscgError: where `grad_expectation` raises, no argument is a key, or an argument makes no
        sense.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     k1, k2 = jax.random.split(key)
      ...     rain = jax.random.bernoulli(k1, p)
      ...     noise = jax.random.normal(k2)
      ...     return (3.0 + 0.1 * noise) * rain
      >>> score = jscg.estimators.ScoreFunction(baseline=None)
      >>> report = jscg.variance_report(cost, estimators=score)(0.5, jax.random.key(0))
      >>> [(draw.name, round(draw.share, 2)) for draw in report.draws]
      [('rain', 1.0), ('noise', 0.0)]
      >>> best = report.alternatives[0]
      >>> best.better, best.variance < 0.1
      (True, True)
    """
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums)
    options = dataclasses.replace(options, purpose="first order")
    num_estimates = _count(num_estimates)
    present = Choice(estimators, options.num_samples)
    asked = Asked(fun, argnums, has_aux, key_argnums)

    def report(*args: Any) -> VarianceReport:
        arguments = Arguments(args, options)
        trace(fun, options, args, {})  # raises what `grad_expectation` raises
        found: list[Any] = []

        def gradient(args: tuple, chosen: jax.Array) -> Any:
            redrawing = Redrawing(chosen)

            def surrogate(*args: Any) -> jax.Array:
                rewriter, inputs, tree = trace(fun, options, args, {}, redrawing)
                found[:] = [rewriter.plan, redrawing]
                cost, _ = jax.tree.unflatten(tree, rewriter(inputs))
                redrawing.forget()
                return cost

            return jax.grad(surrogate, options.argnums)(*args)

        one = once(arguments, gradient)
        plan, redrawing = found
        chunks = Chunks(arguments, num_estimates, one)
        with Progress(progress) as bar:
            base, redrawn = _shared_out(chunks, gradient, one.numbers, redrawing, bar)
            tried = candidates(present, plan, redrawing, alternatives)
            measured: list[Alternative | Refusal] = []
            if tried and base.variance:
                trials = Trials(asked, present, arguments, chunks, base, bar)
                measured = trials(tried)
        draws = tuple(
            share_of(source, redrawing, plan, base, redrawn.get(number))
            for number, source in enumerate(redrawing.sources, 1)
        )
        draws = tuple(sorted(draws, key=lambda d: -np.nan_to_num(d.share)))
        rows = [m for m in measured if isinstance(m, Alternative)]
        rows.sort(key=operator.attrgetter("product"))
        signal = signals(base, [path for path, _ in leaves_for(fun, options.argnums, args)])
        words, code = advice(asked, draws, signal, rows, base)
        return VarianceReport(
            draws,
            signal,
            tuple(rows),
            tuple(m for m in measured if isinstance(m, Refusal)),
            words,
            code,
            base.variance,
            base.count,
            options.num_samples,
        )

    return Awaiting(report, "variance_report", fun)


def _shared_out(
    chunks: Chunks, gradient: Gradient, numbers_held: int, redrawing: Redrawing, progress: Progress
) -> tuple[Tally, dict[int, Redrawn]]:
    """The estimates, and by its number those with a source of randomness drawn anew."""
    numbers = [i for i, source in enumerate(redrawing.sources, 1) if not source.why_not]
    progress.expect(chunks.rounds * (1 + len(numbers)))
    run = chunks.compiled(gradient, numbers_held)
    first = run(0)
    base = Tally(centre_of(first))
    redrawn = {number: Redrawn() for number in numbers}
    for i in range(chunks.rounds):
        found = run(i) if i else first
        base.add(found)
        progress.step()
        for number, kept in redrawn.items():
            kept.add(found, run(i, number), base.centre)
            progress.step()
    return base, redrawn


def _count(num_estimates: Any) -> int:
    if isinstance(num_estimates, bool) or not hasattr(num_estimates, "__index__"):
        raise ArgumentTypeError(
            f"jscg: num_estimates must be an integer, but got {num_estimates!r}."
        )
    if operator.index(num_estimates) < 2:
        raise ArgumentError(
            f"jscg: a variance needs at least 2 estimates, but got num_estimates={num_estimates}."
        )
    return operator.index(num_estimates)
