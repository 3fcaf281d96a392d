"""Which estimator in which situation: what the default does, and what else there is.

Of every way to take the gradient in a situation (`benchmarks/situations.py`): its variance and its
work, as ratios to the first way, and their product, which is what to choose by: the time to a given
precision.  Variance is that of one gradient, as the geometric mean over parameter tensors; work is
the processor time of one gradient, in pairs that take turns.  z is the distance in standard errors
from the exact gradient, or from the mean of the first way where none is known: a biased estimator
has a large one.

Run with `python -m benchmarks.choosing`; `--situation chain` measures one only.
docs/choosing_an_estimator.md shows what it prints.
"""

from __future__ import annotations

import time

from benchmarks import harness
from benchmarks.estimators import distance, measure, picked
from benchmarks.situations import SITUATIONS


def table(name: str, pairs: int) -> list[tuple[str, float, float, float]]:
    """Of every way in a situation: name, z, and the ratios of variance and of work."""
    problem, gradients = SITUATIONS[name]()
    found = {way: measure(problem, gradient) for way, gradient in gradients.items()}
    unit, lines = next(iter(found.values())), []
    for way, each in found.items():
        ratios = [max(a, 1e-12 * b) / b for a, b in zip(each.variance, unit.variance, strict=True)]
        work = harness.time_ratio(each.call, unit.call, pairs, time.process_time).median
        lines.append((way, distance(problem, each, unit), harness.geometric_mean(ratios), work))
    return lines


def main() -> None:
    """Run as a script."""
    parser = harness.parser(__doc__)
    parser.add_argument("--situation", choices=SITUATIONS, help="one only")
    options = parser.parse_args()
    for name in [options.situation] if options.situation else SITUATIONS:
        print(f"\n{name}: {(SITUATIONS[name].__doc__ or '').strip()}")
        print(f"  {'':30}{'z':>6}{'variance':>11}{'work':>8}{'variance x work':>17}")
        for way, z, variance, work in table(name, options.pairs):
            shown = [
                f"{x:.3g}" if variance > 1e-9 else "exact" for x in (variance, variance * work)
            ]
            line = f"  {way:30}{z:6.1f}{shown[0]:>11}{work:8.2f}{shown[1]:>17}"
            print(line, flush=True)
        found = picked(SITUATIONS[name]()[0], 1) or "pathwise"
        print(f"  grad_expectation, one sample: {found}")


if __name__ == "__main__":
    main()
