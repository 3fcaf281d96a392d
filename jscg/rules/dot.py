"""Matrix products and convolutions."""

from __future__ import annotations

from ._registry import AxisTransfer, rule, shape_of


@rule("dot_general", cheap=False)
def dot_general(eqn):
    """Batch and free axes stay apart; contracted axes are mixed.  Output: batch, lhs, rhs."""
    (contract, batch) = eqn.params["dimension_numbers"]
    operands, start = [], len(batch[0])
    for side in (0, 1):
        axes: list[AxisTransfer] = []
        for i in range(len(shape_of(eqn.invars[side]))):
            if i in batch[side]:
                axes.append((list(batch[side]).index(i), 0, 0))
            elif i in contract[side]:
                axes.append(None)
            else:
                axes.append((start, 0, 0))
                start += 1
        operands.append(tuple(axes))
    return [operands]


@rule("conv_general_dilated", cheap=False)
def convolution(eqn):
    """Examples stay apart, and so do the output features that single filters make."""
    dims, params = eqn.params["dimension_numbers"], eqn.params
    lhs: list[AxisTransfer] = [None] * len(shape_of(eqn.invars[0]))
    rhs: list[AxisTransfer] = [None] * len(shape_of(eqn.invars[1]))
    if params["batch_group_count"] == 1:
        lhs[dims.lhs_spec[0]] = (dims.out_spec[0], 0, 0)
        rhs[dims.rhs_spec[0]] = (dims.out_spec[1], 0, 0)
    return [[tuple(lhs), tuple(rhs)]]
