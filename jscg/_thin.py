"""Values that are the same for all samples, computed for one of them.

Several samples of a draw may have one law: `vmap` maps its keys and not its parameters.  At the
means (see `_at_means`) they are then equal, and so is what depends on nothing else.  Such a value
is *thin*: it has the length one along the axis of the samples.  Where an equation is not known to
keep thin values thin they are spread out again, so that a rule that is missing takes time only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._compat import bind
from ._nodes import StochasticNode
from ._program import CUSTOM, Literal, Program
from ._relaxed import Edge
from ._scores import Scorer
from ._sharding import spec_of
from .rules import RULES
from .rules.elementwise import elementwise

_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"}
_ALONG_AN_AXIS = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"}


class Thin(NamedTuple):
    """A value for one sample.

    Attributes:
      array: of length one along an axis.
      axis: which axis that is.
    """

    array: jax.Array
    axis: int


def samples_of(node: StochasticNode) -> int:
    """How many samples of one law a draw has along its first axis; one if that is not known."""
    batch = node.eqn.params["batch"]
    apart = not batch or any(batch[0][1:]) or not batch[0][0] or any(spec_of(node.aval))
    return 1 if apart else node.shape[0]


def one_of(array: jax.Array, axis: int) -> Thin:
    """The first of several samples that are equal."""
    return Thin(lax.slice_in_dim(array, 0, 1, axis=axis), axis)


class Thinner:
    """Runs equations of a program for one sample.

    Attributes:
      thin: the thin values so far.
    """

    def __init__(self, program: Program, path: Iterable[int], read: Callable[[Any], Any]):
        """Begins with no thin values.

        Args:
          program: the program.
          path: what is run again, and may differ from sample to sample where it is not thin.
          read: gives the values of the program, spread out.
        """
        self.program, self.read = program, read
        self.anew = {v for i in path for v in program.eqns[i].outvars}
        self.producers = program.producers()
        self.thin: dict[Any, Thin] = {}

    def run(self, index: int) -> dict[Any, Any] | None:
        """The results of an equation, spread out, if they are thin; which is noted."""
        eqn = self.program.eqns[index]
        if not any(v in self.thin for v in eqn.invars if not isinstance(v, Literal)):
            return None
        found = self._custom(index) if eqn.primitive.name in CUSTOM else self._simple(eqn)
        if found is None:
            return None
        self.thin.update(zip(eqn.outvars, found, strict=True))
        pairs = zip(eqn.outvars, found, strict=True)
        return {v: jnp.broadcast_to(x.array, v.aval.shape) for v, x in pairs}

    def support(self, node: StochasticNode, scorer: Scorer) -> list[jax.Array]:
        """The probabilities of a draw, thin if its parameters are."""
        batch = node.eqn.params["batch"]
        inputs = [i for i in scorer.inputs if i.operand is not None]
        thin = [i for i in inputs if not isinstance(i.atom, Literal) and i.atom in self.thin]
        mapped = [i for i in inputs if batch and batch[0][1 + (i.operand or 0)]]
        if not thin or thin != mapped or any(i.moves or self.thin[i.atom].axis for i in thin):
            return scorer.support(self.read)[1]
        read = lambda v: self.thin[v].array if v in self.thin else self.read(v)  # noqa: E731
        shape = (1, *node.shape[1:])
        return [jnp.broadcast_to(p, shape) for p in scorer.probabilities(read)[1]]

    def note(self, edge: Edge, value: jax.Array) -> None:
        """Notes what a draw becomes, if that is thin."""
        if value.shape != edge.var.aval.shape:
            band = edge.relation[len(edge.node.loops)]
            assert band is not None
            self.thin[edge.var] = Thin(value, band[0])

    def operand(self, atom: Any, axis: int | None) -> Any:
        """A value for one sample, whose samples would stand on an axis; None if they differ."""
        if isinstance(atom, Literal):
            return atom.val
        if atom in self.thin:
            return self.thin[atom].array if self.thin[atom].axis == axis else None
        shape = atom.aval.shape
        if axis is None or len(shape) <= axis or shape[axis] == 1:
            return self.read(atom)
        if atom in self.anew or atom not in self.producers:
            return None
        made = self.program.eqns[self.producers[atom]]
        spread = made.primitive.name == "broadcast_in_dim"
        if spread and axis not in made.params["broadcast_dimensions"]:
            return one_of(self.read(atom), axis).array
        return None

    def _simple(self, eqn: Any) -> list[Thin] | None:
        name, params = eqn.primitive.name, dict(eqn.params)
        first = next(v for v in eqn.invars if not isinstance(v, Literal) and v in self.thin)
        axis, shape = self.thin[first].axis, first.aval.shape
        axes: list[int | None] = [axis] * len(eqn.invars)
        if name in RULES and RULES[name].transfers is elementwise:
            out = axis
        elif name in _REDUCTIONS and axis not in params["axes"]:
            out = axis - sum(a < axis for a in params["axes"])
        elif name == "transpose":
            out = params["permutation"].index(axis)
        elif name == "squeeze":
            out = axis - sum(a < axis for a in params["dimensions"])
        elif name == "broadcast_in_dim" and params["sharding"] is None:
            out = params["broadcast_dimensions"][axis]
            params["shape"] = _with_one(params["shape"], out)
        elif name == "reshape" and params["sharding"] is None and params["dimensions"] is None:
            sizes, before = params["new_sizes"], math.prod(shape[:axis])
            out = next((i for i in range(len(sizes)) if _starts(sizes, i, before, shape[axis])), -1)
            if out < 0:
                return None
            params["new_sizes"] = _with_one(sizes, out)
        elif name == "concatenate" and params["dimension"] != axis:
            out = axis
        elif name in _ALONG_AN_AXIS and params["axis"] != axis:
            out = axis
        elif name == "slice" and _whole(params, axis, shape[axis]):
            out = axis
            params["limit_indices"] = _with_one(params["limit_indices"], axis)
        elif name == "dot_general" and params.get("out_sharding") is None:
            out, axes = _of_product(eqn, eqn.invars.index(first), axis)
        else:
            return None
        if out is None:
            return None
        args = [self.operand(v, where) for v, where in zip(eqn.invars, axes, strict=True)]
        if any(arg is None for arg in args):
            return None
        return [Thin(x, out) for x in bind(eqn.replace(params=params), *args)]

    def spread(self, atom: Any) -> Any:
        """A value for all samples."""
        return atom.val if isinstance(atom, Literal) else self.read(atom)

    def _custom(self, index: int) -> list[Thin] | None:
        """The body of a function with a derivative of its own, without that."""
        eqn, (body, *_) = self.program.eqns[index], self.program.subs[index]
        values = dict(body.consts)
        inner = Thinner(body, range(len(body.eqns)), values.__getitem__)
        values |= zip(body.invars, map(self.spread, eqn.invars), strict=True)
        for v, outer in zip(body.invars, eqn.invars, strict=True):
            if not isinstance(outer, Literal) and outer in self.thin:
                inner.thin[v] = self.thin[outer]
        for i, e in enumerate(body.eqns):
            made = inner.run(i)
            if made is None:
                if any(v in inner.thin for v in e.invars if not isinstance(v, Literal)):
                    return None
                args = [inner.spread(v) for v in e.invars]
                made = dict(zip(e.outvars, bind(e, *args), strict=True))
            values |= made
        outvars = [v for v in body.outvars if not isinstance(v, Literal) and v in inner.thin]
        return [inner.thin[v] for v in outvars] if len(outvars) == len(body.outvars) else None


def _whole(params: dict[str, Any], axis: int, size: int) -> bool:
    """Whether a slice takes all of an axis."""
    every = params["strides"] is None or params["strides"][axis] == 1
    return every and (params["start_indices"][axis], params["limit_indices"][axis]) == (0, size)


def _with_one(sizes: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*sizes[:axis], 1, *sizes[axis + 1 :])


def _starts(sizes: tuple[int, ...], axis: int, before: int, size: int) -> bool:
    """Whether an axis of a reshaped array is one of the array, by the sizes before it."""
    return sizes[axis] == size and math.prod(sizes[:axis]) == before


def _of_product(eqn: Any, place: int, axis: int) -> tuple[int | None, list[int | None]]:
    """Where the samples are in a product of matrices, and in its operands."""
    contracted, batch = eqn.params["dimension_numbers"]
    if axis in contracted[place]:
        return None, []
    if axis in batch[place]:
        out = list(batch[place]).index(axis)
        return out, [batch[0][out], batch[1][out]]

    def free(k: int) -> list[int]:
        taken = {*contracted[k], *batch[k]}
        return [a for a in range(len(eqn.invars[k].aval.shape)) if a not in taken]

    before = len(batch[0]) + (len(free(0)) if place else 0)
    axes: list[int | None] = [None, None]
    axes[place] = axis
    return before + free(place).index(axis), axes
