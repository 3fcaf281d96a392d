"""Indices that are known where an outcome of a draw is put in its place.

`table[jnp.arange(n), x]` at the outcome 3 of all elements is a column of the table, and needs no
index for each element, neither here nor where it is differentiated.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _uniform
from ._program import Literal, Program
from ._sharding import like
from ._uniform import Stack, Uniform, for_each


@dataclasses.dataclass(frozen=True)
class Count:
    """An array whose elements are their own indices along an axis.

    Attributes:
      axis: the axis.
    """

    axis: int

    def fill(self, aval: Any) -> jax.Array:
        """The array itself, of the type of another."""
        return like(lax.broadcasted_iota(aval.dtype, aval.shape, self.axis), aval)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Arrays side by side along the last axis, of which each has one element there.

    Attributes:
      columns: uniform ones, counts, and others as they are.
    """

    columns: tuple[Any, ...]

    def fill(self, aval: Any) -> jax.Array | Stack:
        """The array itself, of the type of another."""
        one = jax.ShapeDtypeStruct((*aval.shape[:-1], 1), aval.dtype)
        found = [c.fill(one) if isinstance(c, SYMBOLIC) else c for c in self.columns]
        return for_each(lambda *parts: like(jnp.concatenate(parts, -1), aval), found)


SYMBOLIC = (Uniform, Count, Columns)
# An axis of so many elements is split into all of them, whichever are wanted.
MANY = 64
# Of arrays, by their id and an axis: the array itself, and all of its slices along the axis.
Pieces = dict[tuple[int, int], tuple[Any, list[jax.Array]]]


class Known:
    """What the integers of a program are that no draw is put into, where that is known."""

    def __init__(self, program: Program):
        self.program, self.producers = program, program.producers()
        self.found: dict[Any, Any] = {}

    def __getitem__(self, atom: Any) -> Any:
        if getattr(atom.aval.dtype, "kind", "") not in {"i", "u", "b"}:  # keys have no kind
            return None
        if isinstance(atom, Literal):
            return _recognized(atom.val)
        if atom not in self.found:
            self.found[atom] = self._look(atom)
        return self.found[atom]

    def _look(self, atom: Any) -> Any:
        if atom not in self.producers:
            return _recognized(self.program.closed_over.get(atom))
        eqn = self.program.eqns[self.producers[atom]]
        if eqn.primitive.name == "iota":
            axis = eqn.params["dimension"]
            return Count(axis) if atom.aval.shape[axis] > 1 else Uniform(np.asarray(0))
        if eqn.primitive.name not in {"lt", "add", "select_n", "broadcast_in_dim"}:
            return None
        found = fold(eqn, [self[v] for v in eqn.invars], {})
        return found if isinstance(found, SYMBOLIC) else None


def _recognized(value: Any) -> Any:
    """A constant, if it is uniform or counts."""
    if value is None or isinstance(value, jax.core.Tracer) or not np.size(value):
        return None
    if not getattr(value, "is_fully_addressable", True):  # some of it is on other machines
        return None
    value = np.asarray(value)
    if np.all(value == value.flat[0]):
        return Uniform(value.flat[0])
    counts = value.ndim == 1 and np.array_equal(value, np.arange(len(value)))
    return Count(0) if counts else None


def fold(eqn: Any, args: list[Any], pieces: Pieces) -> Any:
    """The result of an equation if it is known, an operand or a part of one; else None."""
    name, first, out = eqn.primitive.name, args[0], eqn.outvars[0].aval
    if name == "lt" and isinstance(first, Count) and isinstance(args[1], Uniform):
        return Uniform(np.asarray(False)) if np.all(args[1].number <= 0) else None
    if name == "select_n" and isinstance(first, Uniform):
        if not first.single:
            if len(args) > 3 or not all(isinstance(x, Uniform) for x in args):
                return None
            no, yes = (x.number for x in args[1:])
            return Uniform(np.where(first.number, yes, no))
        chosen = args[1 + int(first.number)]
        whole = isinstance(chosen, (*SYMBOLIC, Stack)) or np.shape(chosen) == out.shape
        return chosen if whole else None
    if name == "broadcast_in_dim" and isinstance(first, Count):
        axis = eqn.params["broadcast_dimensions"][first.axis]
        return Count(axis) if out.shape[axis] == eqn.invars[0].aval.shape[first.axis] else None
    if name == "concatenate" and any(isinstance(x, SYMBOLIC) for x in args):
        columns = eqn.params["dimension"] == len(out.shape) - 1
        columns = columns and all(v.aval.shape[-1] == 1 for v in eqn.invars)
        return Columns(tuple(args)) if columns else None
    if name == "gather" and isinstance(args[1], Columns | Uniform):
        return gathered(eqn, args[0], args[1], pieces)
    return _uniform.fold(eqn, args)


def gathered(eqn: Any, table: Any, indices: Columns | Uniform, pieces: Pieces) -> Any:
    """What a gather reads where some of its indices are known; None: nothing is gained."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    out = eqn.outvars[0].aval
    if isinstance(table, (*SYMBOLIC, Stack)):
        return None
    wanted = numbers.start_index_map
    columns = indices.columns if isinstance(indices, Columns) else (indices,) * len(wanted)
    batch = [axis for axis in range(len(out.shape)) if axis not in numbers.offset_dims]
    # Where the operand's axes go: those that are read whole or from some place on ...
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    stay = [axis for axis in range(len(sizes)) if axis not in gone]
    place = dict(zip(stay, numbers.offset_dims, strict=True))
    # ... and those of which each element of the result reads one that is its own.
    own = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    place |= {axis: batch[index_axis] for axis, index_axis in own}
    operand, left, counts, each = table, [], [], None
    for axis, column in zip(wanted, columns, strict=True):
        size, full = sizes[axis], table.shape[axis]
        inside = isinstance(column, Uniform) and np.all(
            (column.number >= 0) & (column.number <= full - size)
        )
        if inside and column.single:
            operand = _part(operand, axis, int(column.number), size, pieces)
        elif inside and each is None:
            each = (axis, size, column.number)
        elif isinstance(column, Count) and _counts_off(axis, batch[column.axis], eqn, place):
            place[axis] = batch[column.axis]
            counts.append((axis, column))
        else:
            left.append((axis, column))
    if not left:

        def finish(operand: jax.Array) -> jax.Array:
            for axis, _ in counts:
                length = out.shape[place[axis]]
                if length < operand.shape[axis]:
                    operand = lax.slice_in_dim(operand, 0, length, axis=axis)
            return _laid_out(operand, place, out)

        return for_each(finish, [operand if each is None else _parts(operand, *each)])
    # What is left must be within the table, and the same for all outcomes.
    other = any(isinstance(column, Uniform | Stack) for _, column in left)
    if operand is table or each is not None or other:
        return None
    axes, rest = zip(*left, *counts, strict=True)
    aval = eqn.invars[1].aval
    aval = jax.ShapeDtypeStruct((*aval.shape[:-1], len(rest)), aval.dtype)
    numbers = numbers._replace(start_index_map=axes)
    params = eqn.params | {"dimension_numbers": numbers}
    return eqn.primitive.bind(operand, Columns(rest).fill(aval), **params)


def _part(operand: jax.Array, axis: int, start: int, size: int, pieces: Pieces) -> jax.Array:
    """A slice; one of a few is taken from all of them, whose derivative is one array, not many."""
    full = operand.shape[axis]
    if size > 1 or full > MANY:
        return lax.slice_in_dim(operand, start, start + size, axis=axis)
    key = (id(operand), axis)
    if key not in pieces:
        # With the operand, or its id might be used again.
        pieces[key] = (operand, list(lax.split(operand, (1,) * full, axis)))
    return pieces[key][1][start]


def _parts(operand: jax.Array, axis: int, size: int, starts: np.ndarray) -> Stack:
    """A slice for each outcome."""
    steps = np.diff(starts)
    if size == 1 and (np.all(steps == 1) or np.all(steps == -1)):  # a block, or it backwards
        block = operand
        if len(starts) < operand.shape[axis]:
            first = int(starts.min())
            block = lax.slice_in_dim(operand, first, first + len(starts), axis=axis)
        block = block if steps[0] == 1 else lax.rev(block, (axis,))
        return Stack(jnp.expand_dims(jnp.moveaxis(block, axis, 0), 1 + axis))
    part = lambda start: lax.dynamic_slice_in_dim(operand, start, size, axis)  # noqa: E731
    return Stack(jax.vmap(part)(starts))


def _counts_off(axis: int, to: int, eqn: Any, place: dict[int, int]) -> bool:
    """Whether an index that counts along an axis of the result does so within the operand."""
    numbers, length = eqn.params["dimension_numbers"], eqn.outvars[0].aval.shape[to]
    fits = axis in numbers.collapsed_slice_dims and length <= eqn.invars[0].aval.shape[axis]
    return fits and to not in place.values()


def _laid_out(operand: jax.Array, place: dict[int, int], out: Any) -> jax.Array:
    """Drops the axes without a place, and moves the others to theirs."""
    kept = sorted(place, key=place.__getitem__)
    gone = [axis for axis in range(operand.ndim) if axis not in place]
    order = lax.transpose(operand, [*kept, *gone])
    operand = lax.squeeze(order, range(len(kept), operand.ndim))
    return like(lax.broadcast_in_dim(operand, out.shape, [place[axis] for axis in kept]), out)
