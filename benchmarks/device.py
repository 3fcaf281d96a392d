"""What a gradient takes of its device: NVIL at a large batch, against what the device can do.

python -m benchmarks.device     # on the device that JAX chooses: a GPU, where there is one

Useful work is that of the fastest gradient by hand, its products of matrices; a gradient that does
more of them has no higher share.  What the device can do is measured in the same run: one product
of large square matrices, and passes over a large array.  Bytes are those that XLA counts for every
kernel; what a cache holds makes their share larger than it is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp

import jscg
from benchmarks import harness, nvil, programs
from benchmarks.workloads.nvil import Kind, make

SIZE, LENGTH, PASSES = 4096, 2**26, 8


@dataclasses.dataclass(frozen=True)
class Peak:
    """What the device can do, measured: operations and bytes a second."""

    operations: float
    bytes: float

    @classmethod
    def measure(cls, size: int = SIZE, length: int = LENGTH) -> Peak:
        """Of one product of square matrices, and of passes that read and write an array."""
        matrix = jnp.full((size, size), 0.5)
        array = jnp.ones(length)

        @jax.jit
        def passes(array: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, PASSES, lambda i, a: a + i, array)

        multiply = jax.jit(lambda a: a @ a)
        calls = {"product": lambda: multiply(matrix), "passes": lambda: passes(array)}
        seconds = harness.quickest(calls, rounds=3)
        moved = 2 * PASSES * array.nbytes
        return cls(2 * size**3 / seconds["product"], moved / seconds["passes"])


@dataclasses.dataclass(frozen=True)
class Used:
    """One gradient on the device.

    Attributes:
      time: over that of the fastest by hand.
      operations: useful ones a second, over the peak.
      bytes: those that XLA says the program reads and writes a second, over the peak.
      host: operations of the compiled program that wait for the host.
    """

    name: str
    time: harness.Ratio
    operations: float
    bytes: float
    host: int


def measure(kind: Kind, params: nvil.Params, x: jax.Array, pairs: int, peak: Peak) -> list[Used]:
    """The fastest of those by hand, and jscg's same estimator."""
    workload = make(kind, 1, params, x)
    ours = jscg.grad_expectation(workload.cost, **workload.same)
    args = workload.params, jax.random.key(1)
    compiled = {
        name: jax.jit(gradient).lower(*args).compile()
        for name, gradient in {**workload.hand, "jscg": ours}.items()
    }
    calls: Mapping[str, Callable[[], Any]] = {
        name: functools.partial(program, *args) for name, program in compiled.items()
    }
    seconds = harness.quickest(calls, rounds=5)
    best = min(workload.hand, key=lambda name: seconds[name])
    useful = programs.product_operations(jax.make_jaxpr(workload.hand[best])(*args))

    def used(name: str) -> Used:
        time = harness.time_ratio(calls[name], calls[best], pairs)
        moved = compiled[name].cost_analysis()["bytes accessed"]
        return Used(
            f"{kind}, {name}",
            time,
            useful / time.first / peak.operations,
            moved / time.first / peak.bytes,
            len(programs.host_operations(compiled[name].as_text())),
        )

    return [used(best), used("jscg")]


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.add_argument("--batch", type=int, default=8_192, help="examples")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, batch {options.batch}")
    peak = Peak.measure()
    print(f"products {peak.operations / 1e9:.4g} GFLOP/s, passes {peak.bytes / 1e9:.4g} GB/s\n")
    params, some = nvil.init(jax.random.key(0)), nvil.digits(1_500)
    x = some[jnp.arange(options.batch) % len(some)]
    lines = [
        (
            found.name,
            f"{1e3 * found.time.first:.3g}",
            str(found.time),
            f"{found.operations:.0%}",
            f"{found.bytes:.0%}",
            str(found.host),
        )
        for kind in get_args(Kind)
        for found in measure(kind, params, x, options.pairs, peak)
    ]
    header = ("estimator", "ms", "time / by hand", "of products", "of passes", "waits for the host")
    harness.print_columns(header, lines)


if __name__ == "__main__":
    main()
