"""The programs of docs/moving_here.md, run by other libraries and by jscg.

For each: the mean gradient of both, against the exact one, in standard errors (the worst element),
and the ratio of variances, both with as many samples as the program says.  What is not installed is
left out, with a word.

Run with `python -m benchmarks.moving_here`, in an environment with jscg and any of numpyro, rlax,
"optax<0.2.7", genjax, pyro-ppl and storchastic.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings

import numpy as np

from benchmarks.moving_here._programs import MOVES

FILES = ("numpyro_and_pyro", "genjax_and_storchastic", "optax_monte_carlo", "reinforce")


def distance(gradients: np.ndarray, exact: np.ndarray) -> float:
    """From the exact gradient, in standard errors; the worst element."""
    error = gradients.std(0, ddof=1) / np.sqrt(len(gradients))
    return float(np.max(np.abs(gradients.mean(0) - exact) / np.maximum(error, 1e-5)))


def main() -> None:
    """Run as a script."""
    for name in FILES:
        importlib.import_module(f"benchmarks.moving_here.{name}")
    warnings.filterwarnings("ignore")  # announcements of other libraries are theirs to mend
    print(f"{'':58}{'z theirs':>9}{'z ours':>8}{'variance ours / theirs':>24}")
    for title, package, function in MOVES:
        try:
            version = importlib.metadata.version(package)
            theirs, ours, exact = function()
        except ImportError as error:
            print(f"{package}, {title}: left out ({error})")
            continue
        exact = np.ravel(np.asarray(exact))
        spread = theirs.var(0, ddof=1).sum()
        ratio = f"{ours.var(0, ddof=1).sum() / spread:.3g}" if spread > 0 else "theirs is zero"
        row = f"{package} {version}, {title}"
        print(f"{row:58}{distance(theirs, exact):9.1f}{distance(ours, exact):8.1f}{ratio:>24}")


if __name__ == "__main__":
    main()
