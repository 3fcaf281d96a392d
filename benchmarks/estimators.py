"""Every estimator on every problem: bias, variance, cost, and variance times cost.

Variance is that of one gradient, as the geometric mean over parameter tensors of the ratio to the
leave-one-out score function with four samples, cost the time of one gradient over that of the
score function without a baseline.  The last column, variance times cost relative to leave-one-out,
is what to choose by: how long it takes to a given precision.  z is the distance from the exact
gradient (or from the mean of leave-one-out, where none is known) in standard errors, the worst of
a few random directions.

Run with `python -m benchmarks.estimators`; `--problem walk` measures one problem only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

import jscg
from benchmarks import harness, nvil
from jscg import estimators as est

Gradient = Callable[[Any, jax.Array], Any]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A cost to differentiate the expectation of.

    Attributes:
      cost: `cost(params, key)`.
      params: where.
      exact: the expectation, if it is known.
      keys: how many gradients are taken at once.
      rounds: how often.
      own: further choices of estimators that make sense here.
    """

    cost: Callable[[Any, jax.Array], jax.Array]
    params: Any
    exact: Callable[[Any], jax.Array] | None = None
    keys: int = 1_000
    rounds: int = 10
    own: dict[str, Any] = dataclasses.field(default_factory=dict)


# Problems ----------------------------------------------------------------------------------------


def quadratic(size: int = 200, target: float = 0.499) -> Problem:
    """The toy of REBAR and its successors: sum (x - 0.499)^2 over Bernoulli x."""

    def cost(logits, key):
        return jnp.sum((jax.random.bernoulli(key, jax.nn.sigmoid(logits)) - target) ** 2)

    def exact(logits):
        p = jax.nn.sigmoid(logits)
        return jnp.sum(p * (1 - target) ** 2 + (1 - p) * target**2)

    return Problem(cost, 0.3 * jax.random.normal(jax.random.key(0), (size,)), exact)


def categorical(dims: int, classes: int) -> Problem:
    """The squared mean of values picked by independent categorical draws."""
    worth = jax.random.normal(jax.random.key(1), (dims, classes))

    def cost(logits, key):
        x = jax.random.categorical(key, logits)
        return (jnp.mean(worth[jnp.arange(dims), x]) - 0.5) ** 2

    def exact(logits):
        p = jax.nn.softmax(logits)
        mean = jnp.sum(p * worth, 1)
        spread = jnp.sum(p * worth**2, 1) - mean**2
        return (jnp.mean(mean) - 0.5) ** 2 + jnp.sum(spread) / dims**2

    return Problem(cost, jax.random.normal(jax.random.key(0), (dims, classes)), exact)


def walk(steps: int = 50) -> Problem:
    """E[X^2] of the random walk that goes up with chance exp(-X / p) (Arya et al. 2022)."""

    def cost(p, key):
        def step(x, k):
            return x + jnp.where(jax.random.bernoulli(k, jnp.exp(-x / p)), 1.0, -1.0), None

        return jax.lax.scan(step, 0.0, jax.random.split(key, steps))[0] ** 2

    def exact(p):
        x = jnp.arange(-steps, steps + 1.0)
        up = jnp.minimum(jnp.exp(-x / p), 1.0)

        def step(chance, _):
            return jnp.roll(chance * up, 1) + jnp.roll(chance * (1 - up), -1), None

        start = jnp.zeros(len(x)).at[steps].set(1.0)
        return jnp.sum(jax.lax.scan(step, start, length=steps)[0] * x**2)

    return Problem(cost, jnp.asarray(2.0 * steps), exact)


def belief_network() -> Problem:
    """The bound of the demo's sigmoid belief network, 24 digits, at its initial parameters."""
    x = nvil.digits(24)

    def cost(params, key):
        return nvil.loss(params, x, key)

    return Problem(cost, nvil.init(jax.random.key(0)), keys=4, rounds=60)


class Model(NamedTuple):
    """Of `exponential_family`.

    Attributes:
      mix: the mean of count i is row i times the rates, plus 0.1.
      look: the mean of what is seen, with unit variance, is this times the counts.
      seen: what is seen.
    """

    mix: jax.Array
    look: jax.Array
    seen: jax.Array


def exponential_model(units: int) -> Model:
    """As many rates as counts, and twice as many numbers that are seen."""
    rng = np.random.default_rng(0)
    mix = jnp.asarray(rng.gamma(1.0, 1.0, (units, units)) / units, jnp.float32)
    look = jnp.asarray(rng.normal(size=(2 * units, units)) / np.sqrt(units), jnp.float32)
    return Model(mix, look, look @ jnp.asarray(rng.poisson(2.0, units), jnp.float32))


def exponential_family(units: int = 10) -> Problem:
    """The bound of a two-layer model: gamma rates above, Poisson counts below, both drawn."""
    mix, look, seen = exponential_model(units)

    def cost(params, key):
        k1, k2 = jax.random.split(key)
        shape, rate = jnp.exp(params["shape"]), jnp.exp(params["rate"])
        z = jax.random.gamma(k1, shape) / rate
        lam = jnp.exp(params["count"])
        n = jax.random.poisson(k2, lam)
        mean = mix @ z + 0.1
        prior = jnp.sum(-z) + jnp.sum(n * jnp.log(mean) - mean - gammaln(n + 1.0))
        likelihood = -0.5 * jnp.sum((seen - look @ n) ** 2)
        guide = jnp.sum(
            shape * params["rate"] + (shape - 1) * jnp.log(z) - rate * z - gammaln(shape)
        ) + jnp.sum(n * params["count"] - lam - gammaln(n + 1.0))
        return guide - prior - likelihood

    params = {"shape": jnp.zeros(units), "rate": jnp.zeros(units), "count": jnp.zeros(units)}
    score = est.ScoreFunction()
    return Problem(cost, params, keys=200, own={"gamma scored": {"z": score, "n": score}})


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "quadratic": quadratic,
    "categorical 12x3": functools.partial(categorical, 12, 3),
    "categorical 6x10": functools.partial(categorical, 6, 10),
    "categorical 3x100": functools.partial(categorical, 3, 100),
    "walk": walk,
    "belief network": belief_network,
    "gamma and Poisson": exponential_family,
}


# Rows --------------------------------------------------------------------------------------------

LEAVE_ONE_OUT = "ScoreFunction, 4 samples"
PLAIN = "ScoreFunction(None)"
ROWS: dict[str, tuple[Any, int]] = {
    PLAIN: (est.ScoreFunction(baseline=None), 1),
    LEAVE_ONE_OUT: (est.ScoreFunction(), 4),
    "Auto": (est.Auto(), 1),
    "Auto, 4 samples": (est.Auto(), 4),
    "Coupled": (est.Coupled(), 1),
    "MeasureValued": (est.MeasureValued(), 1),
    "ARM": (est.ARM(), 1),
    "DisARM": (est.DisARM(), 1),
    "ARMS(4)": (est.ARMS(4), 1),
    "LeaveOneOut(4)": (est.LeaveOneOut(4), 1),
    "UnorderedSet(3)": (est.UnorderedSet(3), 1),
    "Enumerate": (est.Enumerate(), 1),
    "optimal scalar, 4 samples": (est.ScoreFunction("optimal"), 4),
    "REBAR": (est.REBAR(), 1),
    "DoubleControlVariates(2)": (est.DoubleControlVariates(2), 1),
    "GumbelSoftmax, biased": (est.GumbelSoftmax(0.5), 1),
    "StraightThrough, biased": (est.StraightThrough(samples=4), 1),
}


@dataclasses.dataclass
class Measured:
    """Of one estimator on one problem.

    Attributes:
      variance: of every tensor, summed over its elements.
      along: every gradient's components along a few random directions.
      call: takes `keys` gradients.
    """

    variance: list[float]
    along: np.ndarray
    call: Callable[[], Any]


def gradient_of(problem: Problem, choice: Any, samples: int) -> Gradient:
    """A gradient function, or an error if that estimator is not for this problem."""
    gradient = jscg.grad_expectation(problem.cost, estimators=choice, num_samples=samples)
    jax.eval_shape(gradient, problem.params, jax.random.key(0))
    return gradient


def components(directions: list[np.ndarray], gradients: list[Any]) -> np.ndarray:
    """Of gradients, with a leading axis, along directions, with one as well."""
    each = [
        np.reshape(g, (len(g), -1)) @ np.reshape(d, (len(d), -1)).T
        for g, d in zip(gradients, directions, strict=True)
    ]
    return functools.reduce(np.add, each)


def directions_of(problem: Problem) -> list[np.ndarray]:
    """Random ones."""
    rng = np.random.default_rng(3)
    return [rng.normal(size=(4, *x.shape)) for x in jax.tree.leaves(problem.params)]


def measure(problem: Problem, gradient: Gradient) -> Measured:
    """Mean and variance over all keys."""

    @jax.jit
    def many(key: jax.Array) -> Any:
        keys = jax.random.split(key, problem.keys)
        return jax.tree.leaves(jax.vmap(gradient, (None, 0))(problem.params, keys))

    directions, sums, along = directions_of(problem), [], []
    for i in range(problem.rounds):
        found = [np.asarray(g, np.float64) for g in many(jax.random.key(100 + i))]
        sums.append([np.stack([g.sum(0), (g**2).sum(0)]) for g in found])
        along.append(components(directions, found))
    n = problem.keys * problem.rounds
    means = [functools.reduce(np.add, each) / n for each in zip(*sums, strict=True)]
    variance = [float(np.sum(m[1] - m[0] ** 2)) for m in means]
    return Measured(variance, np.concatenate(along), lambda: many(jax.random.key(7)))


def distance(problem: Problem, found: Measured, other: Measured) -> float:
    """From the exact gradient, or from another mean, in standard errors: the worst direction."""
    mean, error = found.along.mean(0), found.along.std(0) / np.sqrt(len(found.along))
    if problem.exact is not None:
        exact = [
            np.asarray(g)[None] for g in jax.tree.leaves(jax.grad(problem.exact)(problem.params))
        ]
        reference = components(directions_of(problem), exact)[0]
    else:
        reference = other.along.mean(0)
        error = np.hypot(error, other.along.std(0) / np.sqrt(len(other.along)))
    off = mean - reference
    return float(np.max(np.abs(off) / np.maximum(error, 1e-5 * (1 + np.abs(reference)))))


def table(name: str, options: Any) -> list[tuple[str, float, float, float, float]]:
    """For every estimator that is for a problem: name, z, variance, cost, variance times cost."""
    problem = PROBLEMS[name]()
    found: dict[str, Measured] = {}
    for row, (choice, samples) in (ROWS | {k: (v, 1) for k, v in problem.own.items()}).items():
        try:
            gradient = gradient_of(problem, choice, samples)
        except jscg.JscgError:
            continue
        found[row] = measure(problem, gradient)
    plain, reference = found[PLAIN], found[LEAVE_ONE_OUT]
    lines = []
    for row, each in found.items():
        ratios = [
            max(a, 1e-12 * b) / b for a, b in zip(each.variance, reference.variance, strict=True)
        ]
        cost = harness.time_ratio(each.call, plain.call, options.pairs).median
        z = distance(problem, each, reference)
        lines.append((row, z, harness.geometric_mean(ratios), cost))
    unit = dict((row, v * c) for row, _, v, c in lines)[LEAVE_ONE_OUT]
    return [(row, z, v, c, v * c / unit) for row, z, v, c in lines]


def picked(problem: Problem, samples: int) -> str:
    """What `Auto` does with every draw whose parameters need a gradient."""
    graph = jscg.graph(problem.cost, num_samples=samples)(problem.params, jax.random.key(0))
    found = []
    for draw in graph.stochastic_nodes:
        ways = [how for how, _, _ in draw.estimates if how != "not needed"]
        ways = [f"{w} {draw.baseline}" if "scored" in w else w for w in dict.fromkeys(ways)]
        if ways:
            found.append(f"{draw.name}: {' and '.join(ways)}")
    return "; ".join(found)


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.add_argument("--problem", choices=PROBLEMS, help="one problem only")
    options = parser.parse_args()
    for name in [options.problem] if options.problem else PROBLEMS:
        lines = table(name, options)
        print(f"\n{name}")
        print(f"  {'estimator':28}{'z':>6}{'variance':>11}{'cost':>7}{'variance x cost':>17}")
        for row, z, variance, cost, product in lines:
            print(f"  {row:28}{z:6.1f}{variance:11.3g}{cost:7.2f}{product:17.3g}", flush=True)
        for samples in (1, 4):
            print(f"  Auto, {samples} sample(s), has {picked(PROBLEMS[name](), samples)}")


if __name__ == "__main__":
    main()
