"""Run every benchmark and print one table."""

from __future__ import annotations

import sys
import time

from benchmarks import harness, markov_chain, nvil, overhead


def main() -> None:
    """Run as a script."""
    options = harness.parser(__doc__).parse_args()
    if options.check:
        nvil.check()
        markov_chain.check()
        return
    rows = []
    for module in (nvil, markov_chain, overhead):
        start = time.perf_counter()
        rows += module.run(options)
        print(f"{module.__name__}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    harness.print_table(rows)
    over = [row.name for row in rows if row.verdict == "OVER"]
    print(f"\n{len(over)} of {sum(row.target is not None for row in rows)} targets missed")


if __name__ == "__main__":
    main()
