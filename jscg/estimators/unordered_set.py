"""Distinct outcomes, drawn without replacement."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from ._base import Estimator, Evaluations, Sampled
from ._checks import why_not_rerun


@dataclasses.dataclass(frozen=True)
class UnorderedSet(Estimator):
    r"""Runs the program at several distinct outcomes of one element, drawn without replacement.

    .. math::
       \nabla_\theta E[c(x)] = E\left[ \sum_{s \in S} \nabla_\theta p(s) R(S, s)
       \left( c(s) - \sum_{t \in S} p(t) R(S, s, t) c(t) \right) \right],

    where R(S, s) is the probability of the set given that s came first, over that of the set, and
    R(S, s, t) that given s and t over that given s (Kool et al. 2020, eqs. 8 and 14).  An outcome
    is never run twice, and what cannot be drawn again is accounted for.

    Cost: `samples` runs without derivatives for each element that reaches the same costs, and
    arithmetic of as many terms as that set has subsets.  First derivatives only.

    Attributes:
      samples: the size of the set; the whole support, where that is smaller.
      budget: the most elements that have runs of their own; above it an error is raised.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(logits, key):
      ...     return jnp.array([1.0, 3.0, 0.5, 2.0])[jax.random.categorical(key, logits)]
      >>> wor = jscg.estimators.UnorderedSet(samples=3)
      >>> jscg.grad_expectation(cost, estimators=wor)(jnp.zeros(4), jax.random.key(0)).shape
      (4,)
    """

    samples: int = 3
    budget: int = 1024

    def __post_init__(self):
        """Checks the number of samples."""
        if self.samples < 2:
            raise ValueError(f"UnorderedSet compares outcomes, but samples={self.samples}")

    compares = True
    moves = "each"

    def compare(self, draw: Sampled) -> Evaluations:
        """The outcomes of the set."""
        support, probs = draw.support()
        table = jnp.stack(probs)
        n = min(self.samples, len(support))
        chosen = self._choose(draw, table, n)
        p = [jnp.take_along_axis(table, c[None], 0)[0] for c in chosen]
        values = [jnp.asarray(support)[c].astype(draw.value.dtype) for c in chosen]
        return Evaluations([*values], values, _coefficients(p))

    def _choose(self, draw: Sampled, table: jax.Array, n: int) -> list[jax.Array]:
        """Places of the n outcomes that come first when noise is added to log-probs."""
        noise = jnp.stack([-jnp.log(-jnp.log(draw.uniform(i))) for i in range(len(table))])
        order = jnp.argsort(-(jnp.log(table) + noise), axis=0)
        return [order[i] for i in range(n)]

    def check(self, node: Any) -> str | None:
        """Needs a finite support."""
        if node.outcomes is None:
            return "its support is not a small finite set"
        return why_not_rerun(node)


def _coefficients(p: list[jax.Array]) -> list[list[jax.Array]]:
    """For every outcome that is run, and every outcome, what the score of the latter gets."""
    n, every = len(p), frozenset(range(len(p)))
    whole = _chance_of_set(p, every, frozenset())
    after = {i: _chance_of_set(p, every - {i}, frozenset({i})) for i in range(n)}
    rows = [[jnp.zeros_like(p[0]) for _ in range(n)] for _ in range(n)]
    for s in range(n):
        ratio = p[s] * after[s] / jnp.where(whole > 0, whole, 1)
        rows[s][s] += ratio
        for t in range(n):
            # What is expected once s is out: t was next, or s itself stands for the rest.
            rows[t][s] -= ratio * _share(p, after, s, t, every)
    return rows


def _share(p, after, s: int, t: int, every: frozenset[int]) -> jax.Array:
    """p(t) R(S, s, t): of the baseline of s, what the cost of t counts."""
    if s == t:
        return p[s]
    pair = _chance_of_set(p, every - {s, t}, frozenset({s, t}))
    return p[t] * pair / jnp.where(after[s] > 0, after[s], 1)


def _chance_of_set(p: list[jax.Array], which: frozenset[int], gone: frozenset[int]) -> jax.Array:
    """That some outcomes come first, in any order, where others are gone."""
    left = 1 - sum((p[i] for i in gone), jnp.zeros_like(p[0]))
    total = jnp.zeros_like(p[0])
    for order in itertools.permutations(sorted(which)):
        chance, rest = jnp.ones_like(p[0]), left
        for i in order:
            chance = chance * p[i] / jnp.where(rest > 0, rest, 1)
            rest = rest - p[i]
        total = total + chance
    return total
