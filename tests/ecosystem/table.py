"""What a row of the table is: a program that draws with a library, and its exact expectation.

One file for each library, `uses_*.py`, lists its rows; `test_ecosystem.py` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.nn import sigmoid, softmax

ROWS: list[Row] = []
WORTH = jnp.array([1.0, -2.0, 0.5])


@dataclass(frozen=True)
class Row:
    """One program of one library.

    Attributes:
      library: the name under which it is imported.
      name: of the row.
      fun: `fun(params, key)`; the library is imported when it is called.
      exact: the expectation as a function of the parameters; None if jscg must refuse.
      scored: whether plain `jax.grad` misses a part.
      params: two numbers.
    """

    library: str
    name: str
    fun: Callable
    exact: Callable | None
    scored: bool
    params: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.library}-{self.name}"


def table_of(library: str):
    """A decorator for the rows of one library."""

    def row(exact: Callable | None, *, scored: bool = True, params=(0.3, 0.7)):
        def add(fun: Callable) -> Callable:
            ROWS.append(Row(library, fun.__name__, fun, exact, scored, params))
            return fun

        return add

    return row


def three(th: jax.Array) -> jax.Array:
    """Logits of three classes."""
    return jnp.stack([th[0], th[1], jnp.zeros_like(th[0])])


def of_two_normals(dist, th):
    """A mixture, of classes whose names all libraries have."""
    parts = dist.Normal(jnp.array([1.0, -1.0]), 1.0)
    return dist.MixtureSameFamily(dist.Categorical(logits=jnp.stack([th[0], 0.0])), parts)


# Expectations that many rows have.


def of_bernoulli(th):
    return sigmoid(th[0]) * th[1]


def of_class(th):
    return softmax(three(th)) @ WORTH


def of_square(th):
    return th[0] ** 2 + th[1] ** 2


def of_mixture(th):
    return (2 * sigmoid(th[0]) - 1) * th[1]


def of_poisson(th):
    return jnp.exp(th[0]) * th[1]


def of_geometric(th):
    return (1 - th[1]) / th[1] * th[0]


def of_beta(th):
    return th[0] / (th[0] + th[1])


def of_gamma_log_prob(th):
    return jax.scipy.special.digamma(th[1]) - th[1]
