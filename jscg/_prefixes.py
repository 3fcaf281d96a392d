"""Sums of log-probs, many of which begin alike.

Costs further down are influenced by the same draws and a few more, so that their sums are longer
ones of the same terms.  Sums of prefixes are shared: a program with n draws in a row needs n
additions and not n^2.  A long run of them is one cumulative sum, and so are the costs-to-go in its
derivative.  Were they additions, XLA would copy the chain of them into the kernel of each of its
numbers, which takes time quadratic in n to compile.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

LONG = 16  # sums that are asked for


@dataclasses.dataclass(eq=False)
class Prefix:
    """The sum of some terms, and longer ones.

    Attributes:
      total: the sum; None if it was not made so far.
      wanted: whether it will be asked for.
      longer: by the term that comes next, sums of one more.
    """

    total: Any = None
    wanted: bool = False
    longer: dict[Any, Prefix] = dataclasses.field(default_factory=dict)

    def then(self, term: Any) -> Prefix:
        """The sum with one more term."""
        found = self.longer.get(term)
        if found is None:
            found = self.longer[term] = Prefix()
        return found


class Prefixes:
    """All sums of one shape.

    Attributes:
      arrays: gives the arrays that are added up for a term.
    """

    def __init__(self, arrays: Callable[[Any], list[jax.Array]]):
        self.arrays, self.root = arrays, Prefix()

    def foresee(self, terms: Sequence[Any]) -> None:
        """Says that a sum will be asked for."""
        node = self.root
        for term in terms:
            node = node.then(term)
        node.wanted = True

    def sum(self, terms: Sequence[Any]) -> Any:
        """The sum of some terms, of which there is at least one."""
        node, known, missing = self.root, self.root, []
        for term in terms:
            node = node.then(term)
            missing.append((term, node))
            if node.total is not None:
                known, missing = node, []
        if missing:
            node.wanted = True
            run = [*missing, *_only_ones(node)]
            many = sum(node.wanted for _, node in run) >= LONG
            self._at_once(known, run) if many else self._one_by_one(known, missing)
        return node.total

    def _one_by_one(self, known: Prefix, run: list[tuple[Any, Prefix]]) -> None:
        total = known.total
        for term, node in run:
            for array in self.arrays(term):
                total = array if total is None else total + array
            node.total = total

    def _at_once(self, known: Prefix, run: list[tuple[Any, Prefix]]) -> None:
        each = [sum(rest, first) for first, *rest in (self.arrays(term) for term, _ in run)]
        total = known.total
        for _, group in itertools.groupby(zip(each, run, strict=True), lambda pair: pair[0].shape):
            arrays, links = zip(*group, strict=True)
            sums = jnp.cumsum(jnp.stack(arrays), 0)
            for (_, node), part in zip(links, sums, strict=True):
                node.total = part if total is None else part + total
            total = node.total


def _only_ones(node: Prefix) -> list[tuple[Any, Prefix]]:
    """The longer sums of a sum, as far as there is one way on."""
    found = []
    while len(node.longer) == 1:
        found += node.longer.items()
        node = found[-1][1]
    return found
