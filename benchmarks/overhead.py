"""What finding the draws and planning costs: `make_jaxpr` with jscg over `make_jaxpr` alone.

Programs of 100 to 10,000 equations, each traced from a fresh function object so that nothing is
cached. Times are those of the tracing thread alone. The exponent is the slope of log time over
log equations: 1 is linear.

Run with `python -m benchmarks.overhead`.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import harness, programs
from benchmarks.harness import Ratio, Row

Program = Callable[[jax.Array, jax.Array], jax.Array]

WIDTH = 8
SIZES = (100, 300, 1_000, 3_000, 10_000)


# Programs of any length --------------------------------------------------------------------------


def some_keys(key: jax.Array, units: int) -> dict[int, jax.Array]:
    """Keys for ten of the units, or so."""
    step = max(1, units // 10)
    return dict(zip(range(0, units, step), jax.random.split(key, 1 + units // step), strict=False))


def lax_program(units: int) -> Program:
    """Elementwise `lax` operations; ten draws or so on the way."""

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = some_keys(key, units)
        y = theta
        for i in range(units):
            y = lax.mul(lax.sin(y), theta)
            y = lax.add(lax.tanh(y), lax.neg(theta))
            if i in keys:
                y = y + jax.random.bernoulli(keys[i], jax.nn.sigmoid(y)).astype(y.dtype)
        return jnp.sum(y * y)

    return program


def jnp_program(units: int) -> Program:
    """`jax.numpy` code, full of nested jits and broadcasts; ten draws or so on the way."""

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = some_keys(key, units)
        y = theta
        for i in range(units):
            y = jnp.where(y > 0.5, jax.nn.softplus(y), jnp.clip(y, -1.0, 1.0))
            y = y - jnp.mean(y) + jnp.stack([y, theta])[0] / (1 + jnp.var(y))
            if i in keys:
                y = y + jax.random.bernoulli(keys[i], jax.nn.sigmoid(theta))
        return jnp.sum(y * y)

    return program


def noisy_program(units: int) -> Program:
    """Kinks and smooth functions behind normal draws, and Bernoulli draws by hand, all checked."""

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = some_keys(key, units)
        y = theta
        for i in range(units):
            y = lax.mul(lax.tanh(y), theta)
            y = lax.max(y, lax.mul(y, lax.full_like(y, 0.1)))
            y = jnp.where(y > theta, y, 2 * y - theta)
            if i in keys:
                k1, k2 = jax.random.split(keys[i])
                y = y + theta * jax.random.normal(k1, y.shape)
                y = y + (jax.random.uniform(k2, y.shape) < jax.nn.sigmoid(theta))
        return jnp.sum(y * y)

    return program


def independent_draws(units: int) -> Program:
    """Nothing but draws, each with a cost of its own."""

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, units)
        cost = jnp.zeros(())
        for i in range(units):
            b = jax.random.bernoulli(keys[i], jax.nn.sigmoid(theta * (i / units)))
            cost = cost + jnp.sum((b - 0.3) ** 2)
        return cost

    return program


def chained_draws(units: int) -> Program:
    """Nothing but draws, each influenced by all before it."""

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, units)
        cost, b = jnp.zeros(()), jnp.zeros(WIDTH)
        for i in range(units):
            b = jax.random.bernoulli(keys[i], jax.nn.sigmoid(theta * b)).astype(theta.dtype)
            cost = cost + jnp.sum((b - 0.3) ** 2)
        return cost

    return program


def layers(units: int) -> Program:
    """Matrix products with a draw after each: every draw mixes all before it."""

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, units)
        h = jnp.ones((4, WIDTH))
        w = jnp.outer(theta, theta)
        cost = jnp.zeros(4)
        for i in range(units):
            logits = h @ w
            h = jax.random.bernoulli(keys[i], jax.nn.sigmoid(logits)).astype(theta.dtype)
            cost = cost + jnp.sum(h * logits - jax.nn.softplus(logits), -1)
        return jnp.mean(cost)

    return program


PROGRAMS: dict[str, Callable[[int], Program]] = {
    "lax, 10 draws": lax_program,
    "jnp, 10 draws": jnp_program,
    "noise, kinks, jumps": noisy_program,
    "independent draws": independent_draws,
    "chained draws": chained_draws,
    "layers of draws": layers,
}


# Noise is checked for jumps, besides.
TARGETS = dict.fromkeys(PROGRAMS, 3.0) | {"noise, kinks, jumps": 4.0}


# Measurements ------------------------------------------------------------------------------------


def units_for(make: Callable[[int], Program], equations: int, args: tuple[Any, ...]) -> int:
    """How many units give about this many equations."""
    few, many = (programs.count_equations(jax.make_jaxpr(make(n))(*args)) for n in (20, 40))
    return max(2, round((equations - (2 * few - many)) / ((many - few) / 20)))


def seconds(function: Callable[[], Any]) -> float:
    """Seconds of this thread's processor time, without those of the cycle collector.

    As in `timeit`: whether a collection of everything that is alive falls into a measurement says
    more about what else is alive than about the function.
    """
    gc.collect()
    gc.disable()
    try:
        start = time.thread_time()
        function()
        return time.thread_time() - start
    finally:
        gc.enable()


def measure(
    make: Callable[[int], Program], units: int, args: tuple[Any, ...], repeats: int
) -> Ratio:
    """Seconds of tracing the surrogate over seconds of tracing the program, in turn."""
    import jscg

    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 1):
        ours = seconds(lambda: jax.make_jaxpr(jscg.surrogate(make(units)))(*args))
        plain = seconds(lambda: jax.make_jaxpr(make(units))(*args))
        if i:  # the first round warms the caches of nested jits
            times[0].append(ours)
            times[1].append(plain)
    return Ratio.of(*times)


def exponent(equations: list[int], times: list[float]) -> float:
    """The slope of log time over log equations."""
    return float(np.polyfit(np.log(equations), np.log(times), 1)[0])


def large(equations: list[int]) -> list[int]:
    """Indices of the programs whose growth counts; none, if there are too few for an exponent."""
    found = [i for i, n in enumerate(equations) if n >= 900]
    return found if len(found) > 1 else []


def run(equations: int = SIZES[-1]) -> list[Row]:
    """All rows of this script, of programs of up to so many equations."""
    args = (jnp.linspace(-1.0, 1.0, WIDTH), jax.random.key(0))
    sizes = tuple(n for n in SIZES if n <= equations)
    rows = []
    for name, make in PROGRAMS.items():
        counted, ours, plain = [], [], []
        for size in sizes:
            units = units_for(make, size, args)
            counted.append(programs.count_equations(jax.make_jaxpr(make(units))(*args)))
            try:
                ratio = measure(make, units, args, 3 if size > 3_000 else 7)
            except RecursionError as error:
                name_size = f"trace {name}, {counted.pop()} equations: jscg / alone"
                rows.append(Row(name_size, float("inf"), TARGETS[name], note=type(error).__name__))
                break
            ours.append(ratio.first)
            plain.append(ratio.second)
            note = f"{ratio.first * 1e3:.0f} / {ratio.second * 1e3:.0f} ms"
            target = TARGETS[name] if size == SIZES[-1] else None
            rows.append(
                Row.ratio(
                    f"trace {name}, {counted[-1]} equations: jscg / alone", ratio, target, note
                )
            )
        last = large(counted)
        if not last:
            continue
        each = [counted[i] for i in last]
        if ours:
            slope = exponent(each, [ours[i] for i in last])
            rows.append(
                Row(f"trace {name}: exponent with jscg", slope, 1.10, note=f"from {each[0]:,} on")
            )
        slope = exponent(each, [plain[i] for i in last])
        per = plain[-1] / counted[-1] * 1e6
        rows.append(Row(f"trace {name}: exponent alone", slope, note=f"{per:.0f} us an equation"))
    return rows


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--equations", type=int, default=SIZES[-1], help="largest program")
    harness.print_table(run(parser.parse_args().equations))


if __name__ == "__main__":
    main()
