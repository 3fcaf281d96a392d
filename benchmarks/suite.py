"""Measures one workload, as ratios to what is written by hand, and shows it as a line of a table.

Everything is measured in one run: two programs take turns, and the median of the ratios of pairs
counts.  By hand is the fastest of the hand-written variants in that run; how much it differs from
itself, compiled a second time, is how much a ratio of times may be off.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import jscg
from benchmarks import harness, programs
from benchmarks.harness import Ratio
from benchmarks.workloads import Gradient, Workload

TIME_GOAL, PRODUCT_GOAL = 1.07, 0.5
SHORT = 0.2e-3  # seconds: below, the same arithmetic differs by up to two, for threads that wake up
LARGEST_DIFFERENCE, LARGEST_Z = 1e-3, 4.5


@dataclasses.dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
      pairs: alternating pairs of a ratio of times.
      compiles: the same of a ratio of compile times.
      keys: gradients for a variance, as a share of what the workload asks for.
    """

    pairs: int = 40
    compiles: int = 5
    keys: float = 1.0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """The variance of one tensor of the gradient, the default over the textbook.

    Attributes:
      ratio: the geometric mean over blocks of keys; zero if the default is exact.
      blocks: the ratio in each block.
    """

    name: str
    ratio: float
    blocks: list[float]


@dataclasses.dataclass(frozen=True)
class Measured:
    """All that the table shows of a workload.

    Attributes:
      hand: the fastest variant.
      time: jscg with the estimator of `hand`, over it.
      floor: `hand` over itself.
      compilation: seconds to trace and compile jscg, over those of `hand`.
      memory: temporary and output bytes of jscg and of `hand`.
      difference: between the gradients, relative to the largest entry of each leaf; NaN if they use
        other samples.
      tensors: variances.
      work: time of the default over that of the textbook.
      z: the default's distance from the exact gradient, in standard errors; NaN if none is known.
      finer: whether variance x time has a goal.
    """

    name: str
    hand: str
    time: Ratio
    floor: Ratio
    compilation: Ratio
    memory: tuple[int, int]
    difference: float
    tensors: list[Tensor]
    work: Ratio
    z: float
    finer: bool

    @property
    def variance(self) -> float:
        """The geometric mean over the tensors that are not exact; zero if all are."""
        return harness.geometric_mean([t.ratio for t in self.tensors if t.ratio] or [0.0])

    @property
    def blocks(self) -> list[float]:
        """The same in every block of keys."""
        noisy = [t.blocks for t in self.tensors if t.ratio]
        return [harness.geometric_mean(block) for block in zip(*noisy, strict=True)]

    @property
    def product(self) -> float:
        """Variance times time of the default, over those of the textbook."""
        return self.variance * self.work.median

    @property
    def too_short(self) -> bool:
        """Whether times have no goal."""
        return self.time.second < SHORT

    @property
    def missed(self) -> list[str]:
        """The goals that are missed."""
        found = {
            "time": self.time.median > TIME_GOAL and not self.too_short,
            "variance x time": self.finer and self.product > PRODUCT_GOAL,
            "gradients differ": self.difference > LARGEST_DIFFERENCE,
            "biased": self.z > LARGEST_Z,
        }
        return [goal for goal, is_missed in found.items() if is_missed]


def gradient_of(workload: Workload, arguments: Any) -> Gradient:
    """A fresh gradient function of (params, key), of which nothing is cached."""

    def cost(params: Any, key: jax.Array) -> jax.Array:
        return workload.cost(params, key)

    return jscg.grad_expectation(cost, **arguments)


def fresh(gradient: Gradient) -> Gradient:
    """The same function under a new identity: JAX compiles it anew."""
    return lambda params, key: gradient(params, key)


def measure(name: str, workload: Workload, options: Options) -> Measured:
    """Measures everything."""
    args = (workload.params, jax.random.key(1))

    def bound(gradient: Gradient) -> Callable[[], Any]:
        jitted = jax.jit(fresh(gradient))
        return lambda: jitted(*args)

    calls = {variant: bound(gradient) for variant, gradient in workload.hand.items()}
    seconds = harness.quickest(calls, max(5, options.pairs // 3))
    best = min(seconds, key=lambda variant: seconds[variant])
    shown = ", ".join(f"{variant} {1e3 * s:.3g} ms" for variant, s in seconds.items())
    print(f"{name}: by hand {shown}", file=sys.stderr, flush=True)

    hand = workload.hand[best]
    same, default = (gradient_of(workload, which) for which in (workload.same, workload.default))
    ours, theirs = bound(same), calls[best]
    difference = harness.max_difference(ours(), theirs()) if workload.equal else float("nan")
    time = harness.time_ratio(ours, theirs, options.pairs)
    floor = harness.time_ratio(bound(hand), theirs, options.pairs)
    work = harness.time_ratio(bound(default), bound(workload.textbook[1]), options.pairs)
    tensors, z = variances(workload, default, options)
    memory = programs.memory_bytes(same, *args), programs.memory_bytes(hand, *args)
    compilation = harness.compile_ratio(  # last, for it clears what was compiled
        lambda: gradient_of(workload, workload.same), lambda: fresh(hand), args, options.compiles
    )
    return Measured(
        name,
        best,
        time,
        floor,
        compilation,
        memory,
        difference,
        tensors,
        work,
        z,
        workload.finer,
    )


def variances(
    workload: Workload, default: Gradient, options: Options
) -> tuple[list[Tensor], float]:
    """Of each tensor, the default over the textbook, and the default's z."""
    count = max(16, round(workload.keys * options.keys))
    keys = jax.random.split(jax.random.key(2), count)
    ours, theirs = (
        harness.moments(gradient, workload.params, keys)
        for gradient in (default, workload.textbook[1])
    )
    z = float("nan")
    if workload.exact is not None:
        z = harness.standard_errors(ours.along, workload.exact())
    first, second = (
        [jax.tree.leaves_with_path(workload.compared(block)) for block in each.variances]
        for each in (ours, theirs)
    )
    tensors = []
    for i, (path, _) in enumerate(first[0]):
        pairs = [(a[i][1], b[i][1]) for a, b in zip(first, second, strict=True)]
        if all(b == 0.0 for _, b in pairs) and all(a == 0.0 for a, _ in pairs):
            continue
        blocks = [a / b if b else float("inf") for a, b in pairs]
        tensors.append(
            Tensor(jax.tree_util.keystr(path) or "all", harness.geometric_mean(blocks), blocks)
        )
    return tensors, z


def profile(workload: Workload) -> dict[str, dict[str, int]]:
    """The operations in the compiled programs, jscg's and those by hand: why a goal is missed."""
    every = {"jscg": gradient_of(workload, workload.same), **workload.hand}
    args = (workload.params, jax.random.key(1))
    return {name: programs.hlo_profile(gradient, *args) for name, gradient in every.items()}


# The table ---------------------------------------------------------------------------------------

HEADER = (
    "workload",
    "time jscg / hand",
    "hand / itself",
    "hand",
    "compile",
    "memory",
    "difference",
    "variance / textbook",
    "variance x time",
    "z",
    "goals missed",
)


def number(value: float, form: str = ".2f") -> str:
    """A number, or nothing if there is none."""
    return "" if np.isnan(value) else f"{value:{form}}"


def times(ratio: float, spread: Sequence[float]) -> str:
    """A ratio of variances with its smallest and largest value."""
    return f"{ratio:.2g} ({min(spread):.2g} to {max(spread):.2g})" if ratio else "exact"


def line(found: Measured) -> tuple[str, ...]:
    """A workload in the table."""
    ours, theirs = found.memory
    return (
        found.name,
        f"{found.time}" + (", no goal" if found.too_short else ""),
        str(found.floor),
        f"{found.hand}, {found.time.second * 1e3:.3g} ms",
        f"{found.compilation.median:.2f} ({found.compilation.first:.2f} s)",
        f"{ours / theirs:.2f} ({ours / 1e6:.3g} MB)",
        number(found.difference, ".0e"),
        times(found.variance, found.blocks),
        f"{found.product:.2g}" + ("" if found.finer else ", no goal"),
        number(found.z, ".1f"),
        ", ".join(found.missed),
    )


def tensor_lines(found: Measured) -> list[tuple[str, ...]]:
    """The variance of every tensor, in the same table."""
    at, empty = HEADER.index("variance / textbook"), [""] * len(HEADER)
    lines = []
    for tensor in found.tensors:
        cells = list(empty)
        cells[0], cells[at] = f"  {tensor.name}", times(tensor.ratio, tensor.blocks)
        lines.append(tuple(cells))
    return lines


def print_table(every: Sequence[Measured], tensors: bool = False) -> None:
    """All workloads, if asked with every tensor, and how many goals are missed."""
    lines = []
    for found in every:
        lines.append(line(found))
        if tensors:
            lines += tensor_lines(found)
    harness.print_columns(HEADER, lines)
    missed = sum(bool(found.missed) for found in every)
    print(
        f"\n{missed} of {len(every)} workloads miss a goal: time <= {TIME_GOAL}, if it is at least"
        f" {SHORT * 1e3} ms;\nvariance x time <= {PRODUCT_GOAL} of the textbook where there is"
        " finer credit.\n"
        "Ratios of times are medians [quartiles] of alternating pairs; of variances geometric"
        " means\nover tensors (smallest to largest of four blocks of keys).  Memory: temporary plus"
        " output."
    )
