"""Every benchmark in one table: time, compile time, memory and variance against JAX by hand.

    python -m benchmarks                          # everything; an hour or so
    python -m benchmarks --workload chain         # workloads with that in their name
    python -m benchmarks --tensors                # the variance of each tensor, too
    python -m benchmarks --check                  # only whether what is written by hand is right
    python -m benchmarks --quick                  # few pairs and keys: does it run?
"""

from __future__ import annotations

import argparse

import jax

from benchmarks import checks, harness, overhead, suite
from benchmarks.workloads import TINY, load


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workload", default="", help="those with this in their name")
    parser.add_argument("--tensors", action="store_true", help="show every tensor's variance")
    parser.add_argument("--check", action="store_true", help="check what is written by hand")
    parser.add_argument("--quick", action="store_true", help="few pairs and keys")
    options = parser.parse_args()
    chosen = {name: make for name, make in load().items() if options.workload in name}
    if not chosen:
        parser.error("no such workload; there are: " + "; ".join(load()))

    if options.check:
        wrong = [text for name, make in chosen.items() for text in checks.check(name, make(), TINY[name]())]
        raise SystemExit("\n".join(wrong) if wrong else None)

    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, pairs: {options.pairs}")
    how = suite.Options(5, 1, 0.1) if options.quick else suite.Options(options.pairs)
    suite.print_table(
        [suite.measure(name, make(), how) for name, make in chosen.items()], options.tensors
    )
    if not options.workload:
        print("\nTracing and planning, over tracing alone:\n")
        harness.print_table(overhead.run(1_000 if options.quick else overhead.SIZES[-1]))


if __name__ == "__main__":
    main()
