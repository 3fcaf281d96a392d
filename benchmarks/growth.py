"""How cost grows: of each pass in equations, of the gradient in batch, steps, units and samples.

The passes (trace, find and plan, rewrite) are timed one by one on flat programs and on programs
whose draws stand four levels deep in jits, scans and conds.  The gradient is compared with one that
is written by hand, in time and in temporary memory, along each size alone.  An exponent is the
slope of log cost over log size: 1 is linear.  Besides, what samples in chunks save (`chunk_size`).

Run with `python -m benchmarks.growth`; `--check` compares with the gradient written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jscg
from benchmarks import harness, overhead, programs
from benchmarks.harness import Row
from jscg._comparisons import Comparer
from jscg._intercept import explicit_draws
from jscg._plan import make_plan
from jscg._program import build
from jscg._rewrite import Rewriter

EQUATIONS = (100, 1_000, 10_000, 100_000)
UNITS_IN_A_NEST = 20

# The passes ---------------------------------------------------------------------------------------


def nested_program(units: int) -> overhead.Program:
    """Nests in a row: a jit holds a scan, that a cond, that another scan with a draw and units."""
    nests = max(1, units // UNITS_IN_A_NEST)

    def program(theta: jax.Array, key: jax.Array) -> jax.Array:
        def inner(y: jax.Array, key: jax.Array) -> Any:
            for _ in range(UNITS_IN_A_NEST):
                y = lax.sub(lax.tanh(lax.mul(lax.sin(y), theta)), theta)
            b = jax.random.bernoulli(key, jax.nn.sigmoid(theta * y))
            return 0.5 * y + b, jnp.sum(y**2)

        def branch(y: jax.Array, key: jax.Array) -> Any:
            y, costs = lax.scan(inner, y, jax.random.split(key, 2))
            return y, jnp.sum(costs)

        def outer(y: jax.Array, key: jax.Array) -> Any:
            other = lambda y, key: (-y, jnp.sum(y))  # noqa: E731
            return lax.cond(theta[0] < 2.0, branch, other, y, key)

        @jax.jit
        def nest(y: jax.Array, key: jax.Array) -> Any:
            y, costs = lax.scan(outer, y, jax.random.split(key, 2))
            return y, jnp.sum(costs)

        y, total = theta, jnp.zeros(())
        for each in jax.random.split(key, nests):
            y, cost = nest(y, each)
            total = total + cost
        return total

    return program


PROGRAMS: dict[str, Callable[[int], overhead.Program]] = {
    "flat": overhead.lax_program,
    "flat, draws only": overhead.independent_draws,
    "nested": nested_program,
}


class Passes(NamedTuple):
    """Seconds of each pass, and of `make_jaxpr` alone."""

    alone: float
    trace: float
    plan: float
    rewrite: float


def passes(make: Callable[[int], overhead.Program], units: int, args: tuple[Any, ...]) -> Passes:
    """Times the passes on a new function each, so that nothing is cached."""
    made: list[Any] = []

    def trace() -> None:
        with explicit_draws():
            closed = jax.make_jaxpr(make(units))(*args)
        made.append(build(closed))

    def plan() -> None:
        made.append(Rewriter(make_plan(made[-1], [True, False], None), Comparer))

    def rewrite() -> None:
        jax.make_jaxpr(lambda *args: made[-1](list(args)))(*args)

    alone = overhead.seconds(lambda: jax.make_jaxpr(make(units))(*args))
    return Passes(alone, *(overhead.seconds(step) for step in (trace, plan, rewrite)))


def pass_rows(most: int) -> list[Row]:
    """The passes on programs of growing length."""
    args = (jnp.linspace(-1.0, 1.0, overhead.WIDTH), jax.random.key(0))
    rows = []
    for name, make in PROGRAMS.items():
        counted, times = [], []
        passes(make, 2 * UNITS_IN_A_NEST, args)  # warms the caches of nested jits
        for size in (n for n in EQUATIONS if n <= most):
            units = units_for(make, size, args)
            counted.append(programs.count_equations(jax.make_jaxpr(make(units))(*args)))
            several = [passes(make, units, args) for _ in range(3 if size < 30_000 else 1)]
            times.append(Passes(*np.median(several, 0)))
            ratio = sum(times[-1][1:]) / times[-1].alone
            note = " + ".join(f"{t * 1e3:.0f}" for t in times[-1][1:])
            note += f" / {times[-1].alone * 1e3:.0f} ms"
            rows.append(
                Row(f"{name}, {counted[-1]} equations: passes / make_jaxpr", ratio, note=note)
            )
        last = overhead.large(counted)
        for field in Passes._fields if last else ():
            slope = overhead.exponent(
                [counted[i] for i in last], [getattr(times[i], field) for i in last]
            )
            target = None if field == "alone" else 1.15
            rows.append(Row(f"{name}: exponent of {field} in equations", slope, target))
    return rows


def units_for(make: Callable[[int], overhead.Program], size: int, args: tuple[Any, ...]) -> int:
    """How many units give about this many equations, where they come in nests."""
    few, many = 2 * UNITS_IN_A_NEST, 4 * UNITS_IN_A_NEST
    counts = [programs.count_equations(jax.make_jaxpr(make(n))(*args)) for n in (few, many)]
    each = (counts[1] - counts[0]) / (many - few)
    return max(2, round((size - counts[0]) / each) + few)


# The gradient -------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """Of a chain of units, each with costs of its own."""

    batch: int = 32
    steps: int = 32
    units: int = 32
    samples: int = 1


BASE = Sizes()
FACTORS = (1, 4, 16)
TARGET_INPUT = 0.3


def chain(sizes: Sizes) -> Callable[..., jax.Array]:
    """The sampling function: the units of an example move by themselves, step by step."""

    def loss(theta: jax.Array, key: jax.Array) -> jax.Array:
        def step(h: jax.Array, key: jax.Array) -> Any:
            y = jax.random.bernoulli(key, jax.nn.sigmoid(theta + h)).astype(theta.dtype)
            h = 0.5 * h + y
            return h, (h - TARGET_INPUT) ** 2

        start = jnp.zeros((sizes.batch, sizes.units))
        _, costs = lax.scan(step, start, jax.random.split(key, sizes.steps))
        return jnp.mean(jnp.sum(costs, (0, 2)))

    return loss


def by_hand(sizes: Sizes) -> Callable[..., jax.Array]:
    """Reward-to-go for every unit; the other samples, or else the other examples, are compared."""

    def sample(theta: jax.Array, key: jax.Array) -> Any:
        def step(h: jax.Array, key: jax.Array) -> Any:
            y = jax.random.bernoulli(key, jax.nn.sigmoid(theta + h)).astype(theta.dtype)
            new = 0.5 * h + y
            return new, (h, y, (new - TARGET_INPUT) ** 2)

        start = jnp.zeros((sizes.batch, sizes.units))
        return lax.scan(step, start, jax.random.split(key, sizes.steps))[1]

    def gradient(theta: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, sizes.samples) if sizes.samples > 1 else key[None]
        h, y, costs = jax.vmap(sample, (None, 0))(theta, keys)  # [samples, steps, batch, units]
        axis = 0 if sizes.samples > 1 else 2
        n = costs.shape[axis]
        centred = (costs - jnp.mean(costs, axis, keepdims=True)) * (n / (n - 1))
        to_go = jnp.cumsum(centred[:, ::-1], 1)[:, ::-1]
        score = y - jax.nn.sigmoid(theta + h)
        return jnp.sum(score * to_go, (0, 1, 2)) / (sizes.batch * sizes.samples)

    return gradient


def ours(sizes: Sizes, **options: Any) -> Callable[..., jax.Array]:
    """The same by jscg."""
    score = jscg.estimators.ScoreFunction()
    return jscg.grad_expectation(
        chain(sizes), num_samples=sizes.samples, estimators=score, **options
    )


def arguments(sizes: Sizes) -> tuple[jax.Array, jax.Array]:
    """Parameters and a key."""
    return jnp.linspace(-1.0, 1.0, sizes.units), jax.random.key(0)


def gradient_rows(pairs: int) -> list[Row]:
    """Along each size alone."""
    rows = []
    for field in Sizes._fields:
        sizes, times, bytes_, ratios = [], [], [], []
        for factor in FACTORS:
            at = BASE._replace(**{field: getattr(BASE, field) * factor})
            if field == "samples":
                at = at._replace(samples=4 * factor, steps=16, units=16)
            args = arguments(at)
            first, second = jax.jit(ours(at)), jax.jit(by_hand(at))
            ratio = harness.time_ratio(
                lambda a=args, f=first: f(*a), lambda a=args, f=second: f(*a), pairs
            )
            memory = [programs.memory_bytes(f, *args) for f in (first, second)]
            sizes.append(getattr(at, field))
            times.append((ratio.first, ratio.second))
            bytes_.append(memory)
            ratios.append(memory[0] / memory[1])
            name = f"gradient, {field} = {sizes[-1]}"
            note = f"{ratio.first * 1e3:.2f} / {ratio.second * 1e3:.2f} ms"
            rows.append(Row.ratio(f"{name}: time, ours / by hand", ratio, note=note))
            note = f"{memory[0] / 1024:.0f} / {memory[1] / 1024:.0f} kB"
            rows.append(Row(f"{name}: memory, ours / by hand", ratios[-1], note=note))
        for what, cost in (("time", times), ("memory", bytes_)):
            mine, hand = (overhead.exponent(sizes, [c[i] for c in cost]) for i in (0, 1))
            note = f"by hand {hand:.2f}"
            # Small sizes have a constant part, which brings an exponent below one.
            rows.append(
                Row(
                    f"gradient: exponent of {what} in {field}",
                    mine,
                    max(1.1, hand + 0.1),
                    note=note,
                )
            )
    return rows


def chunk_rows(pairs: int) -> list[Row]:
    """All samples at once, and in chunks."""
    at = Sizes(batch=1, steps=32, units=32, samples=4096)
    args = arguments(at)
    whole, rows = jax.jit(ours(at)), []
    whole_bytes = whole.lower(*args).compile().memory_analysis().temp_size_in_bytes
    for chunk in (16, 64, 256):
        chunked = jax.jit(ours(at, chunk_size=chunk))
        mine = chunked.lower(*args).compile().memory_analysis().temp_size_in_bytes
        ratio = harness.time_ratio(lambda f=chunked: f(*args), lambda: whole(*args), pairs)
        name = f"{at.samples} samples in chunks of {chunk} / at once"
        note = f"{mine / 1024:.0f} / {whole_bytes / 1024:.0f} kB"
        rows.append(Row(f"{name}: temporary memory", mine / whole_bytes, note=note))
        rows.append(Row.ratio(f"{name}: time", ratio))
        same = harness.max_difference(chunked(*args), whole(*args))
        rows.append(Row(f"{name}: difference of gradients", same, 1e-4))
    return rows


def check() -> None:
    """Raises if the gradient written by hand is another one."""
    for at in (BASE, BASE._replace(samples=4)):
        args = arguments(at)
        difference = harness.max_difference(ours(at)(*args), by_hand(at)(*args))
        print(f"{at}: difference {difference:.1e}")
        if difference > 1e-4:
            raise SystemExit("the gradients differ")


def run(pairs: int, most: int = EQUATIONS[-1]) -> list[Row]:
    """All rows of this script; passes of programs up to `most` equations."""
    return chunk_rows(pairs) + gradient_rows(pairs) + pass_rows(most)


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.add_argument("--equations", type=int, default=EQUATIONS[-1], help="largest program")
    parser.add_argument("--check", action="store_true", help="check what is written by hand")
    options = parser.parse_args()
    check()
    if not options.check:
        harness.print_table(run(options.pairs, options.equations))


if __name__ == "__main__":
    main()
