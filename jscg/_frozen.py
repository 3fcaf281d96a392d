"""Noise that a trace does not see: what numpy and Python draw while a function is traced."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ._source import told_function
from ._warnings import warn


class HostNoise:
    """Knows the states of the global generators of numpy and of Python, as they were.

    To look at a state draws nothing.  JAX and jscg use neither of the two.
    """

    def __init__(self):
        self._states = _states()

    def warn_if_drawn(self, fun: Callable) -> None:
        """Says that what they have drawn since then is fixed, if they have.

        Args:
          fun: the function that was traced meanwhile.
        """
        now = _states()
        drawn = [name for name, state in self._states.items() if state != now[name]]
        if drawn:
            warn(
                f"jscg: {' and '.join(drawn)} drew random numbers while {told_function(fun)} "
                "was traced. A function is traced once and then run as often as you like with the "
                "same numbers, so this noise is frozen: the gradient would be that for one fixed "
                "value of it, and not that of the expectation. Draw with jax.random, from the key."
            )


def _states() -> dict[str, Any]:
    # Not the legacy form, which is for the Mersenne twister alone.
    leaves = jax.tree.leaves(np.random.get_state(legacy=False))
    numpys = [x.tobytes() if isinstance(x, np.ndarray) else x for x in leaves]
    return {"numpy.random": numpys, "Python's random": random.getstate()}
