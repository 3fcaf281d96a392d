"""Ratios measured in one run: time, compile time, memory and variance.

Absolute figures depend on the machine and its load, so everything here compares two programs that
take turns: A B A B ..., the ratio of each pair, the median of the ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Moments",
    "Ratio",
    "Row",
    "compile_ratio",
    "components",
    "directions",
    "geometric_mean",
    "max_difference",
    "moments",
    "parser",
    "print_columns",
    "print_table",
    "quickest",
    "standard_errors",
    "time_ratio",
]

SECONDS_PER_MEASUREMENT = 5e-3


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The median of pairwise ratios, with the quartiles as its spread.

    `first` and `second` are median figures, `quickest` is the smallest of the first series: the
    one to choose by on a busy machine.
    """

    median: float
    low: float
    high: float
    pairs: int
    first: float = float("nan")
    second: float = float("nan")
    quickest: float = float("nan")

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> Ratio:
        """The ratio of two series measured in turn."""
        ratios = np.asarray(first) / np.asarray(second)
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return cls(
            float(median),
            float(low),
            float(high),
            len(ratios),
            statistics.median(first),
            statistics.median(second),
            min(first),
        )


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure, and the figure to stay below."""

    name: str
    value: float
    target: float | None = None
    spread: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the figure is within its target; empty where there is none."""
        if self.target is None:
            return ""
        return "ok" if self.value <= self.target else "OVER"

    @classmethod
    def ratio(cls, name: str, ratio: Ratio, target: float | None = None, note: str = "") -> Row:
        """A row that shows the quartiles of a ratio."""
        return cls(name, ratio.median, target, f"{ratio.low:.2f} to {ratio.high:.2f}", note)


def print_table(rows: Iterable[Row]) -> None:
    """Print rows as one aligned table."""
    lines = []
    for row in rows:
        target = "" if row.target is None else f"<= {row.target:g}"
        lines.append((row.name, f"{row.value:.3g}", row.spread, target, row.verdict, row.note))
    print_columns(("what", "measured", "spread", "target", "", "note"), lines)


def print_columns(header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print cells below a header, aligned."""
    lines = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all scripts share."""
    result = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    result.add_argument("--pairs", type=int, default=40, help="alternating pairs per timing")
    return result


def _seconds(
    call: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    start = clock()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (clock() - start) / repeats


def time_ratio(
    first: Callable[[], Any],
    second: Callable[[], Any],
    pairs: int = 40,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Seconds of `first` over seconds of `second`, in alternating pairs after a warm-up.

    Short calls are repeated inside one measurement, each as often as it takes a few milliseconds.
    With `time.process_time` as the clock it is the work of all threads that is compared.
    """
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, got {pairs}")
    calls = first, second
    for call in calls:
        _seconds(call, 3)
    repeats = [
        max(1, round(SECONDS_PER_MEASUREMENT / max(_seconds(call, 3), 1e-7))) for call in calls
    ]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for call, count, found in zip(calls, repeats, times, strict=True):
            found.append(_seconds(call, count, clock))
    return Ratio.of(*times)


def quickest(calls: Mapping[str, Callable[[], Any]], rounds: int = 10) -> dict[str, float]:
    """The smallest seconds of each call; they take turns."""
    found = {name: [_seconds(call, 3)] for name, call in calls.items()}
    for _ in range(rounds):
        for name, call in calls.items():
            repeats = max(1, round(SECONDS_PER_MEASUREMENT / max(min(found[name]), 1e-7)))
            found[name].append(_seconds(call, repeats))
    return {name: min(each) for name, each in found.items()}


def compile_ratio(
    first: Callable[[], Callable[..., Any]],
    second: Callable[[], Callable[..., Any]],
    args: tuple[Any, ...],
    repeats: int = 5,
) -> Ratio:
    """Seconds to trace, lower and compile, `first` over `second`, all caches cleared each time.

    Both arguments make a function object anew; it is jitted here.
    """

    def seconds(make: Callable[[], Callable[..., Any]]) -> float:
        jax.clear_caches()
        function = jax.jit(make())
        start = time.perf_counter()
        function.lower(*args).compile()
        return time.perf_counter() - start

    seconds(first), seconds(second)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        times[0].append(seconds(first))
        times[1].append(seconds(second))
    return Ratio.of(*times)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of the gradients at many keys.

    Attributes:
      variances: one tree per block of keys, of each leaf the variance summed over its elements; the
        spread between blocks tells how sure a ratio is.
      along: the components of every gradient along some directions, [key, direction].
    """

    variances: list[Any]
    along: np.ndarray


def directions(tree: Any, count: int = 4) -> Any:
    """Random ones in the space of a tree, with a leading axis."""
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: rng.normal(size=(count, *jnp.shape(x))).astype(np.float32), tree)


def components(tree: Any, along: Any) -> jax.Array:
    """Of a tree along directions."""
    each = jax.tree.map(lambda d, x: d.reshape(len(d), -1) @ jnp.ravel(x), along, tree)
    return sum(jax.tree.leaves(each))


def moments(
    gradient: Callable[[Any, jax.Array], Any], params: Any, keys: jax.Array, blocks: int = 4
) -> Moments:
    """Of `gradient(params, key)` at all keys, one after another: none is kept."""
    shape = jax.eval_shape(gradient, params, keys[0])
    along = jax.device_put(directions(shape))

    @jax.jit  # all arrays are arguments: XLA would spend minutes on folding large constants
    def update(
        count: jax.Array, mean: Any, squares: Any, params: Any, key: jax.Array, along: Any
    ) -> tuple[Any, ...]:
        value = gradient(params, key)
        new_mean = jax.tree.map(lambda m, v: m + (v - m) / count, mean, value)
        new_squares = jax.tree.map(
            lambda s, v, m, n: s + (v - m) * (v - n), squares, value, mean, new_mean
        )
        return new_mean, new_squares, components(value, along)

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    size = len(keys) // blocks
    variances, found = [], []
    for block in range(blocks):
        mean, squares = zeros, zeros
        for i in range(size):
            count = jnp.asarray(i + 1.0)
            key = keys[block * size + i]
            mean, squares, component = update(count, mean, squares, params, key, along)
            found.append(np.asarray(component, np.float64))
        variances.append(jax.tree.map(lambda s, m: _variance(s, m, size), squares, mean))
    return Moments(variances, np.stack(found))


def _variance(squares: jax.Array, mean: jax.Array, size: int) -> float:
    """Summed over elements; zero where it is rounding."""
    found, scale = (np.asarray(x, np.float64) for x in (squares, mean))
    variance = float(found.sum()) / (size - 1)
    return variance if variance > 1e-9 * float(np.square(scale).sum()) else 0.0


def standard_errors(along: np.ndarray, exact: Any) -> float:
    """How far a mean is from the exact gradient: of some directions, the worst."""
    reference = np.asarray(components(exact, directions(exact)), np.float64)
    length = np.sqrt(sum(float(np.sum(np.square(x))) for x in jax.tree.leaves(exact)))
    error = along.std(0) / np.sqrt(len(along)) + 1e-5 * length  # the latter for rounding
    return float(np.max(np.abs(along.mean(0) - reference) / error))


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean, which no single large tensor can rule."""
    if min(values) == 0.0:
        return 0.0
    return float(np.exp(np.mean(np.log(np.asarray(values, np.float64)))))


def max_difference(first: Any, second: Any) -> float:
    """The largest difference between two trees, relative to the largest entry of each leaf."""

    def leaf(a: Any, b: Any) -> float:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        scale = max(float(np.max(np.abs(b), initial=0.0)), 1e-12)
        return float(np.max(np.abs(a - b), initial=0.0)) / scale

    return max(jax.tree.leaves(jax.tree.map(leaf, first, second)))
