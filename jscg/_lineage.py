"""How keys are made, and whether one may be another one, or made of it.

A key comes from somewhere (an argument, a seed) by steps: the third of a split into five, the fold
of a number.  Keys that came by different elements of the same step, or from different arguments,
are different, and so is all that is made of them.  What is not known for sure counts as the same.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from ._program import Literal

Range = tuple[float, float]  # indices lo up to, and not including, hi
ALL: Range = (0, math.inf)


@dataclasses.dataclass(frozen=True)
class Step:
    """One step from a key to the next.

    Attributes:
      how: where the first key comes from, or the operation that made one of another.
      at: which elements of the result, for each of its axes.
    """

    how: Any
    at: tuple[Range, ...] = ()


@dataclasses.dataclass(frozen=True)
class Again:
    """A step that was taken any number of times, in a loop; None stands for steps of all kinds."""

    step: Step | None


Path = tuple[Step | Again, ...]


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Where a key, or an array of keys, comes from.

    Attributes:
      path: the steps, the first one first.
      axes: for every axis of the array the step, and its place there, of which it is the index;
        None where that is not known.
    """

    path: Path
    axes: tuple[tuple[int, int] | None, ...] = ()

    def narrowed(self, axis: int, lo: int, hi: int) -> Lineage:
        """Of a slice along an axis."""
        known = self.axes[axis]
        if known is None:
            return self
        at, place = known
        step = self.path[at]
        assert isinstance(step, Step)
        ranges = list(step.at)
        start = ranges[place][0]
        ranges[place] = (start + lo, start + hi)
        path = (*self.path[:at], Step(step.how, tuple(ranges)), *self.path[at + 1 :])
        return Lineage(path, self.axes)

    def without(self, *axes: int) -> Lineage:
        """With these axes gone."""
        return Lineage(self.path, tuple(a for i, a in enumerate(self.axes) if i not in axes))


def may_hold_keys(atom: Any) -> bool:
    """Whether a value has the type of a key, typed or legacy."""
    dtype = atom.aval.dtype
    return dtype == jnp.uint32 or jnp.issubdtype(dtype, jax.dtypes.prng_key)


def origin(how: Any, atom: Any) -> Lineage | None:
    """The lineage of a value that comes from outside, if it may be a key."""
    if not may_hold_keys(atom):
        return None
    ndim = len(atom.aval.shape)
    return Lineage((Step(("origin", how), (ALL,) * ndim),), tuple((0, i) for i in range(ndim)))


def unknown(atom: Any) -> Lineage:
    """The lineage of a key that may be any."""
    return Lineage((Again(None),), (None,) * len(atom.aval.shape))


def join_lineages(a: Lineage | None, b: Lineage | None, atom: Any) -> Lineage | None:
    """Of a value that is one or the other."""
    if a is None and b is None:
        return None
    if a is None or b is None or a.path != b.path:
        return unknown(atom)
    return a if a == b else Lineage(a.path, (None,) * len(a.axes))


def next_time(before: Lineage | None, after: Lineage | None, atom: Any) -> Lineage | None:
    """Of a carry of a loop that comes in as one and leaves as the other."""
    if before is not None and after is not None and after.path[:-1] == before.path:
        last = after.path[-1]
        if isinstance(last, Step) and before.path[-1] == Again(last):
            return before
        if isinstance(last, Step) and before.path[-1] != Again(None):
            return Lineage((*before.path, Again(last)), (None,) * len(before.axes))
    return join_lineages(before, after, atom)


# How arrays of keys, and what they are made of, are handled without drawing from them.
_MOVES = set(
    """broadcast_in_dim concatenate copy dynamic_slice dynamic_update_slice expand_dims gather name
    optimization_barrier random_clone random_unwrap redraw reshape rev select_n slice split squeeze
    stack transpose unstack""".split()
)
HANDLING = _MOVES | {"random_seed", "random_wrap", "random_split", "random_fold_in"}


def lineages(eqn: Any, operands: list[Lineage | None]) -> list[Lineage | None]:
    """The lineages of the results of an equation."""
    out = eqn.outvars[0]
    if eqn.primitive.name == "random_seed":
        step = _numbered(("origin", "seed"), eqn.invars[0])
        return [Lineage((step,), (None,) * len(out.aval.shape))]
    found = _of_one(eqn, operands[0]) if operands and operands[0] is not None else None
    return found or [_moved(eqn, operands, out) for out in eqn.outvars]


def _of_one(eqn: Any, key: Lineage) -> list[Lineage | None] | None:
    params, ndim = eqn.params, len(eqn.outvars[0].aval.shape)
    match eqn.primitive.name:
        case "random_wrap":
            return [key.without(ndim)]
        case "random_unwrap":
            return [Lineage(key.path, (*key.axes, None))]
        case "random_split":
            shape, at = params["shape"], len(key.path)
            path = (*key.path, Step(("split", shape), (ALL,) * len(shape)))
            return [Lineage(path, (*key.axes, *((at, i) for i in range(len(shape)))))]
        case "random_fold_in":
            axes = key.axes if len(key.axes) == ndim else (None,) * ndim
            return [Lineage((*key.path, _numbered(("fold_in",), eqn.invars[1])), axes)]
        case "slice" if set(params["strides"] or (1,)) == {1}:
            ends = zip(params["start_indices"], params["limit_indices"], strict=True)
            for axis, (lo, hi) in enumerate(ends):
                key = key.narrowed(axis, lo, hi)
            return [key]
        case "squeeze":
            return [key.without(*params["dimensions"])]
        case "transpose":
            return [Lineage(key.path, tuple(key.axes[i] for i in params["permutation"]))]
        case "unstack":
            axis = params["axis"]
            return [key.narrowed(axis, i, i + 1).without(axis) for i in range(len(eqn.outvars))]
    return None


def _moved(eqn: Any, operands: list[Lineage | None], out: Any) -> Lineage | None:
    if not may_hold_keys(out):
        return None
    typed = out.aval.dtype != jnp.uint32
    if eqn.primitive.name not in _MOVES:
        return unknown(out) if typed else None
    alike = zip(eqn.invars, operands, strict=True)
    paths = {None if k is None else k.path for v, k in alike if v.aval.dtype == out.aval.dtype}
    if paths == {None}:
        return unknown(out) if typed else None
    (path, *more) = paths
    return unknown(out) if more or path is None else Lineage(path, (None,) * len(out.aval.shape))


def _numbered(how: Any, number: Any) -> Step:
    known = isinstance(number, Literal) and not jnp.ndim(number.val)
    return Step(how, ((int(number.val), int(number.val) + 1) if known else ALL,))


def may_be_made_of(path: Path, of: Path) -> bool:
    """Whether a key may be another one, or made of it."""
    if not of:
        return True
    if isinstance(of[0], Again):
        if may_be_made_of(path, of[1:]):
            return True
        if not path:
            return False
        if isinstance(path[0], Again):
            return may_be_made_of(path[1:], of)
        return _may_be(path[0], of[0].step) and may_be_made_of(path[1:], of)
    if not path:
        return False
    if isinstance(path[0], Again):
        more = _may_be(path[0].step, of[0]) and may_be_made_of(path, of[1:])
        return more or may_be_made_of(path[1:], of)
    return _may_be(path[0], of[0]) and may_be_made_of(path[1:], of[1:])


def _may_be(a: Step | None, b: Step | None) -> bool:
    if a is None or b is None:
        return True
    if a.how != b.how:  # a split and a fold may give the same key; arguments are different ones
        return not a.how[0] == b.how[0] == "origin"
    return all(max(p[0], q[0]) < min(p[1], q[1]) for p, q in zip(a.at, b.at, strict=True))
