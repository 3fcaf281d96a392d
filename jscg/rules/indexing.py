"""Reading and writing at computed indices."""

from __future__ import annotations

from ._registry import AxisTransfer, keep, rule, shape_of


@rule("gather")
def gather(eqn):
    """Whole slices keep their axes; each index reads for its own place in the output."""
    operand, indices = (shape_of(v) for v in eqn.invars)
    out = shape_of(eqn.outvars[0])
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    offset = list(numbers.offset_dims)
    batch = [i for i in range(len(out)) if i not in offset]
    # Operand axes that survive, in order, are the output's offset axes.
    gone = set(numbers.collapsed_slice_dims) | set(numbers.operand_batching_dims)
    survive = [i for i in range(len(operand)) if i not in gone]
    axes: list[AxisTransfer] = [None] * len(operand)
    for i, o in zip(survive, offset, strict=True):
        if sizes[i] == operand[i]:
            axes[i] = (o, 0, 0)
    index_axes = [(b, 0, 0) for b in batch] + [None]  # the last axis holds the coordinates
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for i, s in pairs:
        axes[i] = (batch[s], 0, 0)
    return [[tuple(axes), tuple(index_axes[: len(indices)])]]


@rule("dynamic_slice")
def dynamic_slice(eqn):
    """Axes that are read whole stay aligned."""
    sizes = eqn.params["slice_sizes"]
    axes = tuple(
        (i, 0, 0) if size == full else None
        for i, (size, full) in enumerate(zip(sizes, shape_of(eqn.invars[0]), strict=True))
    )
    return [[axes, *[()] * (len(eqn.invars) - 1)]]


@rule("dynamic_update_slice")
def dynamic_update_slice(eqn):
    """The updated array stays aligned, the update along axes that it fills."""
    full, part = shape_of(eqn.invars[0]), shape_of(eqn.invars[1])
    update = tuple(
        (i, 0, 0) if a == b else None for i, (a, b) in enumerate(zip(full, part, strict=True))
    )
    return [[keep(len(full)), update, *[()] * (len(eqn.invars) - 2)]]


@rule(
    "scatter",
    "scatter-add",
    "scatter-sub",
    "scatter-mul",
    "scatter-min",
    "scatter-max",
    cheap=False,
)
def scatter(eqn):
    """The updated array stays aligned, and updates along axes that they fill or are mapped over.

    Along other axes indices and updates may go anywhere.
    """
    operand, indices, updates = (shape_of(v) for v in eqn.invars)
    numbers = eqn.params["dimension_numbers"]
    window = list(numbers.update_window_dims)
    # Axes of the operand that an update has, in order, are its window axes.
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    survive = [i for i in range(len(operand)) if i not in gone]
    axes: list[AxisTransfer] = [None] * len(updates)
    for i, u in zip(survive, window, strict=True):
        if updates[u] == operand[i]:  # it fits at one place only
            axes[u] = (i, 0, 0)
    # The others are those of the indices, but for the last, which holds the coordinates.
    rest = [u for u in range(len(updates)) if u not in window]
    index_axes: list[AxisTransfer] = [None] * len(indices)
    pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    for i, s in pairs:
        axes[rest[s]] = index_axes[s] = (i, 0, 0)
    return [[keep(len(operand)), tuple(index_axes), tuple(axes)]]
