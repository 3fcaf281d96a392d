"""Fitted baselines, as numbers: see `_fitted` for what is predicted from what.

Draws whose cells are the same are fitted at once: their predictors are sums of the same columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from ._at_means import AtMeans, finite
from ._cells import Term
from ._fitted import Fitted
from ._nodes import StochasticNode
from ._weights import LogProb, box

FOLDS = 4
RIDGE = 1e-3
STRONGEST = 1e9  # of a prior, for a predictor of variance one
CONSTANT = 1e-5  # a predictor that varies by less, relative to its mean, is taken as constant


class Values(NamedTuple):
    """One term of the objective as a number.

    Attributes:
      slope: the derivative of the objective with respect to it.
      sampled: its value.
      expected: its expectation, if it is enumerated, else its value.
      frozen: its expectation where only the probabilities are differentiable, or None.
    """

    slope: Any
    sampled: Any
    expected: Any
    frozen: Any

    @property
    def deviation(self) -> Any:
        """Sampled minus expected."""
        return self.sampled - self.expected


class Drawn(NamedTuple):
    """What is known of a draw.

    Attributes:
      log_prob: with all its axes.
      baseline: of the user, in the units of the objective, subtracted already; or None.
      learning: zero, with all axes; what it multiplies is added to that baseline's target; or None.
    """

    log_prob: Any
    baseline: Any
    learning: Any


def fitted_term(
    fits: list[Fitted],
    values: dict[Any, Values],
    means: dict[StochasticNode, AtMeans],
    drawn: list[Drawn],
) -> Any:
    """What the fitted baselines of draws with the same cells add to the surrogate: value zero."""
    columns = _Columns(fits, values, means)
    chosen = [_predictors(f, d, columns) for f, d in zip(fits, drawn, strict=True)]
    width = 1 + max(len(known) for _, known in chosen)
    cells = columns.stacked()
    samples, count = cells.shape[0], cells.shape[-1]
    if samples > 1:
        others = (jnp.sum(cells, 0, keepdims=True) - cells) / (samples - 1)
        cells = jnp.concatenate([cells, others], -1)
    pick = np.zeros((len(fits), cells.shape[-1], width), np.float32)
    for each, (target, known) in zip(pick, chosen, strict=True):
        for place, predictor in zip((-1, *range(width - 1)), (target, *known), strict=False):
            for sign, column in predictor.parts:
                each[column + count * predictor.of_others, place] += sign
    x = jnp.einsum("sgt,dti->dsgi", cells, pick, precision="highest")
    x = lax.stop_gradient(x)
    likely = np.zeros((len(fits), width - 1), np.float32)
    for each, (_, known) in zip(likely, chosen, strict=True):
        each[: len(known)] = [p.likely for p in known]
    prediction, slope = cross_fit(x, likely)
    pairs = zip(fits, drawn, strict=True)
    log_probs = jnp.stack([columns.by_cell(f, d.log_prob) for f, d in pairs])
    out = jnp.sum(prediction * (1.0 - box(log_probs)))
    for f, d, s, each in zip(fits, drawn, slope, x, strict=True):
        if d.learning is not None:
            out = out + jnp.sum(_to_learn(f, s, each) * columns.by_cell(f, d.learning))
        # The first predictors are no baselines: their covariances with the score are known, though.
        if f.own:
            exact = sum(columns.sum(t, values[t.atom].frozen) for t in f.own)
            out = out + jnp.sum(s[:, 0] * (exact - lax.stop_gradient(exact)))
        if f.run:
            exact = columns.by_cell(f, means[f.node].expected)
            out = out + jnp.sum(s[:, int(bool(f.own))] * (exact - lax.stop_gradient(exact)))
    return out


class _Predictor(NamedTuple):
    """A sum of columns.

    Attributes:
      parts: a sign and a column each.
      of_others: whether of these the means over the other samples of the cell are taken.
      likely: its coefficient, as far as nothing is known of it.
    """

    parts: list[tuple[float, int]]
    of_others: bool = False
    likely: float = 0.0


def _predictors(f: Fitted, drawn: Drawn, columns: _Columns) -> tuple[_Predictor, list[_Predictor]]:
    """The cost-to-go, and what it is predicted from."""

    def of(terms: list[Term], kind: str) -> _Predictor:
        return _Predictor([(1.0, columns.number(t, kind)) for t in terms])

    # Then the fit chooses between what is subtracted already and the cost-to-go at the means.
    less = [] if drawn.baseline is None else [(-1.0, columns.baseline(f, drawn.baseline))]
    target = of(f.to_go, "expected")
    target.parts.extend(less)
    own = [of(f.own, "deviation")] if f.own else []
    deviations = [of(terms, "deviation") for terms in f.deviations]
    above = [of(terms, "sampled") for terms in f.above]
    expected = [of(f.own, "expected")] if f.own else []
    sloping = [f.node, *f.slopes] if f.run else []
    slopes = [_Predictor([(1.0, columns.slope(n))], likely=1.0) for n in sloping]
    at_means = [_Predictor([(1.0, columns.at_means(f)), *less], likely=1.0)] if f.run else []
    known = [*own, *slopes[:1], *deviations, *slopes[1:], *expected, *above, *at_means]
    if f.shape[0] > 1:
        again = [target, *own, *deviations, *above, *(expected if f.varied else [])]
        known += [p._replace(of_others=True) for p in again]
    return target, known


def _to_learn(f: Fitted, slope: Any, known: Any) -> Any:
    """What is added to the scored cost-to-go for the user's baseline to learn.

    A regression of that alone learns slowly what the textbook's sum shows at once: there log q of
    the draw's units cancels log p of others.  What is enumerated over them comes back as its
    expectation, and the fit takes it away again, having it as a predictor.  What the deviations
    predict is noise of mean zero: the slopes are of other cells.  The rest of the fit must not be
    taken away, or whatever of the baseline the fit makes up for would have no value of its own.
    """
    n = f.noises
    noise = jnp.sum(slope[:, :n] * known[..., :n], -1)
    return (known[..., n] if f.own else 0.0) - noise


class _Columns:
    """Sums of terms over cells, [samples, groups] each."""

    def __init__(self, fits: list[Fitted], values: dict[Any, Values], means: dict):
        self.shape, self.values, self.means = fits[0].shape, values, means
        self.fits = {f.node: f for f in fits}
        self.numbers: dict[Any, int] = {}
        self.arrays: list[Any] = []

    def number(self, term: Term, kind: str) -> int:
        values = self.values[term.atom]
        if kind == "expected" and values.expected is values.sampled:
            kind = "sampled"
        key = (term.atom, term.places, kind)
        return self._once(key, lambda: self.sum(term, lax.stop_gradient(getattr(values, kind))))

    def slope(self, node: StochasticNode) -> int:
        """Of one of the draws, its slope at the means times sampled minus expected."""
        drawn, expected = self.means[node].drawn, lax.stop_gradient(self.means[node].expected)
        return self._once((node, "slope"), lambda: self.by_cell(self.fits[node], drawn - expected))

    def at_means(self, f: Fitted) -> int:
        """The cost-to-go at the means."""
        costs = self.means[f.node].costs
        total = lambda: finite(sum(self.sum(t, costs[t.atom]) for t in f.to_go))  # noqa: E731
        return self._once((f.node, "mean"), total)

    def _once(self, key: Any, make: Callable[[], Any]) -> int:
        if key not in self.numbers:
            self.numbers[key] = self._add(make())
        return self.numbers[key]

    def _add(self, array: Any) -> int:
        self.arrays.append(array)
        return len(self.arrays) - 1

    def stacked(self) -> Any:
        return jnp.stack(self.arrays, -1)

    def sum(self, term: Term, value: Any) -> Any:
        # In float32 at least, before they are multiplied and summed.
        slope, dtype = self.values[term.atom].slope, jnp.promote_types(value.dtype, jnp.float32)
        value = value.astype(dtype) * slope.astype(dtype)
        rest = tuple(i for i in range(value.ndim) if i not in term.places)
        order = np.argsort(np.argsort(term.places))
        return jnp.sum(value, rest).transpose(order).reshape(self.shape)

    def baseline(self, f: Fitted, b: Any) -> int:
        rest = tuple(i for i in range(b.ndim) if i not in f.axes)
        sizes = [f.node.shape[a] for a in f.axes]
        cells = jnp.broadcast_to(jnp.mean(lax.stop_gradient(b), rest), sizes)
        return self._add(cells.reshape(self.shape))

    def by_cell(self, f: Fitted, array: Any) -> Any:
        every = LogProb(array, tuple(range(array.ndim)))
        return every.keep(f.axes).array.reshape(self.shape)


def cross_fit(x: Any, likely: Any) -> tuple[Any, Any]:
    """Predicts the last variable of each group by linear regression over groups of other folds.

    A likely coefficient is the mean of a normal prior, and its deviation.  What varies little in
    other folds, and much in this one, is then predicted with that, and not with noise.

    Args:
      x: [draws, samples, groups, variables].
      likely: coefficients; zeros where nothing is known, [draws, variables-1].

    Returns:
      The predictions, [draws, samples, groups], and the coefficients, [draws, groups, variables-1].
    """
    groups, n = x.shape[2], x.shape[3] - 1
    folds = min(FOLDS, groups)
    mine = np.arange(groups) % folds
    used = np.asarray(mine[None] != np.arange(folds)[:, None], x.dtype)
    cells = x.shape[1] * used.sum(1)
    used /= cells[:, None]
    # The unit only spares overflow: what follows is the same without.
    unit = jnp.max(jnp.abs(x), (1, 2), keepdims=True)
    unit = jnp.where(unit > 0, unit, 1.0)
    x = x / unit
    mean = jnp.einsum("fg,dsgi->dfi", used, x, precision="highest")
    centred = x[:, None] - mean[:, :, None, None]
    weighted = centred * used[:, None, :, None]
    covariance = jnp.einsum("dfsgi,dfsgj->dfij", weighted, centred, precision="highest")
    variance = jnp.diagonal(covariance, axis1=2, axis2=3)[..., :n]
    tiny = jnp.finfo(x.dtype).tiny
    # In units of the other folds, or a cell would move its own coefficients.
    ridge = RIDGE * variance + (CONSTANT * mean[..., :n]) ** 2 + tiny
    cross, prior = covariance[..., :n, n], (likely * unit[:, 0, 0, :n] / unit[:, 0, 0, n:])[:, None]
    explained = jnp.sum(covariance[..., :n, :n] * prior[..., None], -2)
    rest = covariance[..., n, n] + jnp.minimum(jnp.sum((explained - 2 * cross) * prior, -1), 0)
    strength = jnp.maximum(rest, 0)[..., None] / cells[:, None] / (prior**2 + tiny)
    strength = jnp.where(prior == 0, 0, jnp.minimum(strength, STRONGEST))
    ridge = ridge + strength
    left = covariance[..., :n, :n] + ridge[..., None] * np.eye(n, dtype=x.dtype)
    scale = lax.rsqrt(variance + ridge)
    left = left * scale[..., :, None] * scale[..., None, :]
    slope = solve(left, (cross + strength * prior) * scale) * scale
    start = mean[..., n] - jnp.sum(slope * mean[..., :n], -1)
    slope, start = slope[:, mine], start[:, mine]
    prediction = start[:, None] + jnp.sum(x[..., :n] * slope[:, None], -1)
    unit = unit[:, 0]
    return finite(prediction * unit[..., n:]), finite(slope * (unit[..., n:] / unit[..., :n]))


def solve(left: Any, right: Any) -> Any:
    """Solves many small positive definite systems, of order n and well-conditioned.

    By elimination without pivots: `jnp.linalg.solve` stalls on a CPU with few threads, where
    several calls with thousands of systems each run at once (seen with jaxlib 0.10).
    """
    n = right.shape[-1]

    def eliminate(k, a):
        row, column = (lax.dynamic_index_in_dim(a, k, a.ndim - d, keepdims=False) for d in (2, 1))
        row = row / lax.dynamic_index_in_dim(row, k, row.ndim - 1)
        column = column - (np.arange(n) == k)
        return a - column[..., :, None] * row[..., None, :]

    both = jnp.concatenate([left, right[..., None]], -1)
    return lax.fori_loop(0, n, eliminate, both)[..., -1]
