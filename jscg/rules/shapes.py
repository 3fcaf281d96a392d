"""Primitives that move elements without changing them."""

from __future__ import annotations

from ._registry import CUT, AxisTransfer, rule, shape_of


@rule("broadcast_in_dim")
def broadcast_in_dim(eqn):
    """Axes go where `broadcast_dimensions` says; a repeated axis of size one is mixed."""
    operand, out = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    axes = tuple(
        (o, 0, 0) if operand[i] == out[o] else None
        for i, o in enumerate(eqn.params["broadcast_dimensions"])
    )
    return [[axes, *[()] * (len(eqn.invars) - 1)]]


@rule("tile")
def tile(eqn):
    """What is repeated is mixed."""
    return [[tuple((i, 0, 0) if n == 1 else None for i, n in enumerate(eqn.params["reps"]))]]


@rule("transpose")
def transpose(eqn):
    """Axes are permuted."""
    permutation = list(eqn.params["permutation"])
    return [[tuple((permutation.index(i), 0, 0) for i in range(len(permutation)))]]


@rule("squeeze")
def squeeze(eqn):
    """Axes of size one disappear."""
    gone = set(eqn.params["dimensions"])
    kept = [i for i in range(len(shape_of(eqn.invars[0]))) if i not in gone]
    place = {axis: k for k, axis in enumerate(kept)}
    return [
        [
            tuple(
                (place[i], 0, 0) if i in place else None
                for i in range(len(shape_of(eqn.invars[0])))
            )
        ]
    ]


@rule("reshape")
def reshape(eqn):
    """An axis that comes out whole stays aligned; axes that are merged or split are mixed."""
    old, new = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    axes: list[AxisTransfer] = [None] * len(old)
    i = j = 0
    while i < len(old) and j < len(new):
        if old[i] == 1 or new[j] == 1:
            i, j = i + (old[i] == 1), j + (new[j] == 1)
            continue
        start_i, start_j, left, right = i, j, old[i], new[j]
        while left != right:  # grow both groups until they hold the same number of elements
            if left < right:
                i += 1
                left *= old[i]
            else:
                j += 1
                right *= new[j]
        if i == start_i and j == start_j:
            axes[i] = (j, 0, 0)
        i, j = i + 1, j + 1
    return [[tuple(axes), *[()] * (len(eqn.invars) - 1)]]


@rule("rev")
def rev(eqn):
    """Reversed axes are mixed."""
    gone = set(eqn.params["dimensions"])
    return [[tuple(None if i in gone else (i, 0, 0) for i in range(len(shape_of(eqn.invars[0]))))]]


@rule("slice")
def slice_(eqn):
    """Output i reads operand i + start."""
    starts = eqn.params["start_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    return [
        [
            tuple(
                (i, s, s) if stride == 1 else None
                for i, (s, stride) in enumerate(zip(starts, strides, strict=True))
            )
        ]
    ]


@rule("split")
def split(eqn):
    """Like as many slices along one axis."""
    axis, outputs, start = eqn.params["axis"], [], 0
    for size in eqn.params["sizes"]:
        outputs.append(
            [
                tuple(
                    (i, start, start) if i == axis else (i, 0, 0)
                    for i in range(len(shape_of(eqn.invars[0])))
                )
            ]
        )
        start += size
    return outputs


@rule("concatenate")
def concatenate(eqn):
    """Output i reads operand i - (where that operand starts)."""
    axis, start, operands = eqn.params["dimension"], 0, []
    for var in eqn.invars:
        operands.append(
            tuple(
                (i, -start, -start) if i == axis else (i, 0, 0) for i in range(len(shape_of(var)))
            )
        )
        start += shape_of(var)[axis]
    return [operands]


@rule("stack")
def stack(eqn):
    """Axes from the new one on move up by one."""
    axis = eqn.params["axis"]
    return [
        [tuple((i + (i >= axis), 0, 0) for i in range(len(shape_of(var)))) for var in eqn.invars]
    ]


@rule("unstack")
def unstack(eqn):
    """One output for each index of an axis, which disappears."""
    axis = eqn.params["axis"]
    ndim = len(shape_of(eqn.invars[0]))
    axes = tuple(None if i == axis else (i - (i > axis), 0, 0) for i in range(ndim))
    return [[axes]] * len(eqn.outvars)


@rule("pad")
def pad(eqn):
    """Output i reads operand i - low."""
    axes = tuple(
        None if interior else (i, -low, -low)
        for i, (low, _, interior) in enumerate(eqn.params["padding_config"])
    )
    return [[axes, ()]]


@rule("iota", "empty", "create_token", "once_unit")
def source(eqn):
    """Nothing comes in."""
    return [[CUT] * len(eqn.invars)] * len(eqn.outvars)
