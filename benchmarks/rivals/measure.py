"""One program of a library against the default of jscg, in one process, in turn."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import jscg
from benchmarks import harness
from benchmarks.rivals import Gradient, Problem, Program, jitted

NOISE = 1.07  # ratios nearer to one than this are not results
LARGEST_Z = 4.5
ROUNDING = 1e-9  # a variance below so much of the squared mean is no variance


@dataclasses.dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
      pairs: alternating pairs of calls.
      compiles: alternating pairs of first calls; one, if it takes more than ten seconds.
      seconds: how long each side may take for its means and variances, and for its pairs.
    """

    pairs: int = 40
    compiles: int = 3
    seconds: float = 20.0


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; pairs are ours and theirs.

    Attributes:
      z: of the mean gradients to the exact one, in standard errors; NaN and their distance to ours
        where there is no exact one.
      time: the median and quartiles of ours over theirs.
      seconds: of one call.
      first: seconds of the first call, which compiles.
      exact: whether a gradient has no variance.
      variance: ours over theirs, the geometric mean over the tensors where both have one; NaN if
        there are none.
    """

    problem: str
    rival: str
    way: str
    z: tuple[float, float]
    time: tuple[float, float, float]
    seconds: tuple[float, float]
    first: tuple[float, float]
    exact: tuple[bool, bool]
    variance: float

    @property
    def product(self) -> float:
        """Ours over theirs: variance times time, or the time if neither has a variance."""
        ours, theirs = self.exact
        if ours or theirs:
            return self.time[0] if ours and theirs else 0.0 if ours else float("inf")
        return self.variance * self.time[0]

    @property
    def ahead(self) -> str:
        """Who is, by variance times time."""
        if self.z[1] > LARGEST_Z:
            return "theirs is biased"
        if 1 / NOISE <= self.product <= NOISE:
            return "even"
        return "ours" if self.product < 1 else "**theirs**"


# Means and variances -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of many gradients: the variance of each leaf, whether it is one, and components."""

    variances: list[float]
    noisy: list[bool]
    along: np.ndarray


def moments(gradient: Gradient, most: int, seconds: float) -> Moments:
    """Of one gradient after another, until these are enough or the time is over; 16 at least."""

    def leaves(seed: int) -> list[np.ndarray]:
        found = gradient(jax.random.key(seed))
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    start = time.perf_counter()
    first = leaves(0)
    rows = harness.directions(first)
    means, squares, along = [np.zeros(x.shape) for x in first], [0.0] * len(first), []
    for count in range(1, most + 1):
        at = leaves(count)
        along.append(sum(d.reshape(len(d), -1) @ x.ravel() for d, x in zip(rows, at, strict=True)))
        for i, x in enumerate(at):
            off = x - means[i]
            means[i] = means[i] + off / count
            squares[i] += float(np.vdot(off, x - means[i]))
        if count >= 16 and time.perf_counter() - start > seconds:
            break
    variances = [square / (count - 1) for square in squares]
    sizes = [float(np.vdot(mean, mean)) for mean in means]
    noisy = [v > ROUNDING * size for v, size in zip(variances, sizes, strict=True)]
    return Moments(variances, noisy, np.stack(along))


def between(first: np.ndarray, second: np.ndarray) -> float:
    """How far two means of components are apart, in standard errors: the worst direction."""
    error = np.sqrt(first.var(0) / len(first) + second.var(0) / len(second))
    size = 1e-5 * np.abs(second.mean(0)) + 1e-30  # for rounding
    return float(np.max(np.abs(first.mean(0) - second.mean(0)) / (error + size)))


def distances(problem: Problem, ours: Moments, theirs: Moments) -> tuple[float, float]:
    """To the exact gradient, or to each other."""
    if problem.exact is None:
        return float("nan"), between(theirs.along, ours.along)
    exact = [np.asarray(leaf) for leaf in jax.tree.leaves(problem.exact())]
    ours_z, theirs_z = (harness.standard_errors(each.along, exact) for each in (ours, theirs))
    return ours_z, theirs_z


# Times -------------------------------------------------------------------------------------------


def first_call(fresh: Callable[[], Gradient], key: jax.Array) -> tuple[float, Gradient]:
    """The seconds to make a gradient function and call it once, nothing of it in JAX's caches."""
    jax.clear_caches()
    start = time.perf_counter()
    gradient = fresh()
    jax.block_until_ready(gradient(key))
    return time.perf_counter() - start, gradient


def measure(rival: str, program: Program, problem: Problem, options: Options) -> Row:
    """Everything."""

    def fresh() -> Gradient:
        def cost(params: Any, key: jax.Array) -> jax.Array:
            return problem.cost(params, key)

        return jitted(jscg.grad_expectation(cost, **problem.ours), problem.params)()

    key = jax.random.key(1)
    first: list[tuple[float, float]] = []
    while len(first) < options.compiles and not (first and max(first[-1]) > 10):
        ours_first, _ = first_call(fresh, key)
        theirs_first, theirs = first_call(program.fresh, key)
        first.append((ours_first, theirs_first))
    ours = fresh()  # the compiled one is gone with the caches
    each = []
    for gradient in (ours, theirs):
        jax.block_until_ready(gradient(key))
        start = time.perf_counter()
        jax.block_until_ready(gradient(key))
        each.append(time.perf_counter() - start)
    pairs = min(options.pairs, max(5, round(options.seconds / max(each))))
    ratio = harness.time_ratio(lambda: ours(key), lambda: theirs(key), pairs)
    of_ours, of_theirs = (moments(g, problem.keys, options.seconds) for g in (ours, theirs))
    both = zip(of_ours.variances, of_theirs.variances, of_ours.noisy, of_theirs.noisy, strict=True)
    ratios = [a / b for a, b, noisy, also in both if noisy and also]
    ours_first, theirs_first = np.median(first, 0)
    return Row(
        program.problem,
        rival,
        program.way,
        distances(problem, of_ours, of_theirs),
        (ratio.median, ratio.low, ratio.high),
        (ratio.first, ratio.second),
        (float(ours_first), float(theirs_first)),
        (not any(of_ours.noisy), not any(of_theirs.noisy)),
        harness.geometric_mean(ratios) if ratios else float("nan"),
    )


# The table ---------------------------------------------------------------------------------------

HEADER = (
    "problem",
    "rival",
    "way",
    "z theirs",
    "z ours",
    "time [quartiles]",
    "one call, ms",
    "first call",
    "first call, s",
    "variance",
    "variance x time",
    "ahead",
)


def number(value: float) -> str:
    """Two digits, or none if there is no number."""
    return "" if np.isnan(value) else f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table."""
    variance = {
        (True, True): "both exact",
        (True, False): "ours exact",
        (False, True): "theirs exact",
    }.get(row.exact, number(row.variance))
    product = number(row.product)
    if row.z[1] > LARGEST_Z:  # the variance of something else
        variance = product = ""
    median, low, high = row.time
    return (
        row.problem,
        row.rival,
        row.way,
        number(row.z[1]),
        number(row.z[0]),
        f"{number(median)} [{number(low)}, {number(high)}]",
        " / ".join(number(1e3 * s) for s in row.seconds),
        number(row.first[0] / row.first[1]),
        " / ".join(number(s) for s in row.first),
        variance,
        product,
        row.ahead,
    )


def table(rows: Sequence[Row]) -> str:
    """Of all, in Markdown, problem by problem."""
    lines = [HEADER, *(cells(row) for row in sorted(rows, key=lambda row: row.problem))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
