"""Every benchmark in one table: time, compile time, memory and variance against JAX by hand.

python -m benchmarks                          # everything; an hour or so
python -m benchmarks --workload chain         # workloads with that in their name
python -m benchmarks --tensors                # the variance of each tensor, too
python -m benchmarks --check                  # only whether what is written by hand is right
python -m benchmarks --quick                  # few pairs and keys: does it run?
"""

from __future__ import annotations

import argparse
import sys

import jax

from benchmarks import calls, checks, growth, harness, overhead, suite
from benchmarks.workloads import TINY, load


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workload", default="", help="those with this in their name")
    parser.add_argument("--tensors", action="store_true", help="show every tensor's variance")
    parser.add_argument("--check", action="store_true", help="check what is written by hand")
    parser.add_argument("--profile", action="store_true", help="count operations, measure nothing")
    parser.add_argument("--quick", action="store_true", help="few pairs and keys")
    options = parser.parse_args()
    chosen = {name: make for name, make in load().items() if options.workload in name}
    if not chosen:
        parser.error("no such workload; there are: " + "; ".join(load()))

    if options.check:
        wrong = [
            text
            for name, make in chosen.items()
            for text in checks.check(name, make(), TINY[name]())
        ]
        raise SystemExit("\n".join(wrong) if wrong else None)

    if options.profile:
        for name, make in chosen.items():
            for variant, counts in suite.profile(make()).items():
                print(f"{name}, {variant}: {counts}", flush=True)
        return

    how = suite.Options(5, 1, 0.1) if options.quick else suite.Options(options.pairs)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {how.pairs} pairs")
    found = []
    for name, make in chosen.items():
        found.append(suite.measure(name, make(), how))
        print(*suite.line(found[-1]), sep=" | ", file=sys.stderr, flush=True)
    suite.print_table(found, options.tensors)
    if not options.workload:
        quick = options.quick
        print("\nTracing and planning, over tracing alone:\n")
        harness.print_table(overhead.run(1_000 if quick else overhead.SIZES[-1]))
        print("\nHow cost grows:\n")
        harness.print_table(growth.run(how.pairs, 1_000 if quick else growth.EQUATIONS[-1]))
        print("\nCalls without jit, and what stays behind:\n")
        harness.print_table(calls.run(how.pairs, 40 if quick else calls.FUNCTIONS))


if __name__ == "__main__":
    main()
