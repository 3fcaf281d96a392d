"""The same problems with other libraries: programs as their users write them, one file for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

Gradient = Callable[[jax.Array], Any]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is differentiated.

    Attributes:
      cost: our side, a plain sampling function `cost(params, key)`.
      params: where the gradient is taken.
      keys: of how many gradients means and variances are taken, at most.
      exact: the gradient of the expectation; without one, means are held against each other.
      ours: arguments for `jscg.grad_expectation`; none, the default, but where an estimator belongs
        to the problem.
    """

    cost: Callable[[Any, jax.Array], jax.Array]
    params: Any
    keys: int = 1_000
    exact: Callable[[], Any] | None = None
    ours: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a library's user writes.

    Attributes:
      problem: the name of the problem.
      way: which of the library's estimators.
      fresh: makes a gradient function of a key, of which nothing is compiled yet.  Its leaves are
        those of the problem's gradient, in their order.  Libraries with generators of their own
        ignore the key.
    """

    problem: str
    way: str
    fresh: Callable[[], Gradient]


def jitted(gradient: Callable[[Any, jax.Array], Any], params: Any) -> Callable[[], Gradient]:
    """Of a gradient in JAX: compiled anew each time, with the parameters as an argument."""

    def fresh() -> Gradient:
        compiled = jax.jit(lambda params, key: gradient(params, key))
        return lambda key: compiled(params, key)

    return fresh
