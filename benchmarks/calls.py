"""Calls without `jit`: what one costs over a call of the jitted gradient, and what stays behind.

A call of what `jscg.grad_expectation` returns is compiled by itself.  Its time is compared with
that of `jax.jit` of the same, for a program that does nearly nothing, so that what is timed is the
way there: pytrees of 1, 10 and 100 leaves, and one with a fixed argument besides.  Before, many
functions are made, called once, and dropped: memory and what jscg holds must come to rest.

Run with `python -m benchmarks.calls`.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jscg
from benchmarks import harness
from benchmarks.harness import Row
from jscg._program import Program

LEAVES = (1, 10, 100)
FUNCTIONS = 1_000
# JAX keeps 66 small objects of each compiled argmax, and every fifth program here has one.
KEPT_BY_JAX = 66 / 5
KEY = jax.random.key(0)


def cost_of(scale: float) -> Callable[..., jax.Array]:
    """A new function of a pytree of scalars, with one draw."""

    def cost(params: Any, key: jax.Array, power: int = 1) -> jax.Array:
        total = sum(jax.tree.leaves(params))
        return scale * total**power * jax.random.bernoulli(key, jax.nn.sigmoid(total))

    return cost


def loop_of(scale: float) -> Callable[..., jax.Array]:
    """A new function with draws in a branch in a loop."""

    def cost(p: jax.Array, key: jax.Array) -> jax.Array:
        def step(x: jax.Array, key: jax.Array) -> Any:
            x += jax.lax.cond(x > 0, jax.nn.sigmoid, jnp.sin, x)
            return x + jax.random.bernoulli(key, jax.nn.sigmoid(p * x)), x

        return scale * jnp.sum(jax.lax.scan(step, p, jax.random.split(key, 3))[1])

    return cost


def time_rows(pairs: int) -> list[Row]:
    """Calls by themselves over jitted calls."""
    rows = []
    for leaves in LEAVES:
        params = {f"w{i}": jnp.float32(0.01 * i) for i in range(leaves)}
        for fixed in ((), (2,)):
            ours = jscg.grad_expectation(cost_of(1.0))
            jitted = jax.jit(ours, static_argnums=(2,) if fixed else ())
            ratio = harness.time_ratio(
                lambda a=(params, KEY, *fixed), f=ours: f(*a),
                lambda a=(params, KEY, *fixed), f=jitted: f(*a),
                pairs,
            )
            what = f"call, {leaves} leaves{', one argument fixed' if fixed else ''}: ours / jitted"
            note = f"{ratio.first * 1e6:.0f} / {ratio.second * 1e6:.0f} us"
            rows.append(Row.ratio(what, ratio, None if fixed else 1.3, note))
    return rows


def megabytes() -> float:
    """Memory of this process that is resident now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:  # no Linux: the largest that it has been
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def call_of(i: int, ours: bool) -> None:
    """Makes a new function and calls its gradient once."""
    grad = jscg.grad_expectation if ours else lambda fun: jax.jit(jax.grad(fun))
    if i % 5:
        grad(cost_of(float(i)))(0.3, KEY)
    else:  # these take longer to compile
        grad(loop_of(float(i)))(jnp.float32(0.3), KEY)


def leak_rows(functions: int) -> list[Row]:
    """Programs, objects and memory over many functions that are made, called and dropped.

    What JAX itself keeps of as many jitted functions is measured first.
    """
    rows = []
    for name, ours in (("jax.grad, jitted", False), ("ours", True)):
        curve = []
        for i in range(1, functions + 1):
            call_of(i, ours)
            if i % max(1, functions // 10) == 0:
                gc.collect()
                gc.collect()  # what JAX's caches held by weak references
                objects = gc.get_objects()
                programs = sum(isinstance(o, Program) for o in objects)
                curve.append((i, megabytes(), len(objects), programs))
                line = f"{name}, {i} functions: {curve[-1][1]:.0f} MB, {len(objects)} objects"
                print(f"{line}, {programs} programs", file=sys.stderr)
        i, mb, objects, _ = curve[len(curve) // 2 - 1]
        j, mb_end, objects_end, programs = curve[-1]
        span, note = j - i, f"from {mb:.0f} to {mb_end:.0f} MB"
        what = f"{name}, second half of {functions} functions"
        kept = Row(f"{what}: objects kept of each", (objects_end - objects) / span, KEPT_BY_JAX + 1)
        rows += [Row(f"{what}: kilobytes kept of each", (mb_end - mb) * 1024 / span, note=note)]
        rows += [kept, Row(f"{name}: programs alive at the end", programs, 0)] if ours else []
    return rows


def run(pairs: int, functions: int = FUNCTIONS) -> list[Row]:
    """All rows of this script."""
    return leak_rows(functions) + time_rows(pairs)


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.add_argument("--functions", type=int, default=FUNCTIONS, help="for the leaks")
    options = parser.parse_args()
    harness.print_table(run(options.pairs, options.functions))


if __name__ == "__main__":
    main()
