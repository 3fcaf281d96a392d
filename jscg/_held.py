"""Parameters that `jscg.bounds.dreg` holds fixed in a log weight, and who else reads them.

What it leaves out of the gradient, the derivative of log q by its parameters, is made up for by the
path through the latents.  A draw that is scored has no such path: if its law depended on the same
parameters, its part of log q would silently be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from ._compat import bind
from ._program import MOVES, Literal, Program
from ._sides import aside

_NAME = "parameters held by jscg.bounds.dreg"
# What takes some elements of an array, and changes none.
_TAKES = MOVES | {"slice", "rev", "split", "stop_gradient", "unstack"}


def hold(params: Any) -> Any:
    """Parameters without their gradient, marked."""
    return jax.tree.map(
        lambda leaf: checkpoint_name(lax.stop_gradient(jnp.asarray(leaf)), _NAME), params
    )


def held(program: Program) -> list[tuple[Program, Any]]:
    """What was marked, and where."""
    return [
        (part, eqn.invars[0])
        for part in program.walk()
        for eqn in part.eqns
        if eqn.primitive.name == "name" and eqn.params["name"] == _NAME
    ]


class Elements:
    """Of which elements of some inputs values are made.

    Args:
      program: the outermost program.
      inputs: for each of its inputs, whether it is one of them.
    """

    def __init__(self, program: Program, inputs: list[bool]):
        self.program, self.producers = program, program.producers()
        # For arrays of elements of an input: which input, and the index of each element.
        self.taken: dict[Any, tuple[int, np.ndarray]] = {
            v: (i, np.arange(v.aval.size).reshape(v.aval.shape))
            for i, (v, wanted) in enumerate(zip(program.invars, inputs, strict=True))
            if wanted
        }
        for eqn in program.eqns:
            self._take(eqn)

    def _take(self, eqn: Any) -> None:
        if eqn.primitive.name not in _TAKES or len(eqn.invars) > 1:
            return
        (v,) = eqn.invars
        if isinstance(v, Literal) or v not in self.taken:
            return
        number, indices = self.taken[v]
        with aside():
            outs = bind(eqn, jnp.asarray(indices))
        self.taken |= {
            v: (number, np.asarray(out)) for v, out in zip(eqn.outvars, outs, strict=True)
        }

    def of(self, places: Iterable[tuple[Program, Any]]) -> dict[int, np.ndarray]:
        """For each input that some variables depend on, which of its elements."""
        todo, seen, found = [self._outside(*place) for place in places], set(), {}
        while todo:
            for v in todo.pop():
                if isinstance(v, Literal) or v in seen:
                    continue
                seen.add(v)
                if v in self.taken:
                    number, indices = self.taken[v]
                    size = self.program.invars[number].aval.size
                    mask = found.setdefault(number, np.zeros(size, bool))
                    mask[indices] = True
                elif v in self.producers:
                    todo.append(self.program.eqns[self.producers[v]].invars)
        return found

    def in_common(
        self, one: Iterable[tuple[Program, Any]], other: Iterable[tuple[Program, Any]]
    ) -> bool:
        """Whether variables here and there depend on one and the same element."""
        a, b = self.of(one), self.of(other)
        return any(np.any(a[number] & b[number]) for number in a.keys() & b.keys())

    def _outside(self, part: Program, v: Any) -> list[Any]:
        """The variable, or all that is handed to what it stands in."""
        inside = part.path[1:]
        return self.program.eqns[inside[0].at].invars if inside else [v]
