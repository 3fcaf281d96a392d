"""Decompositions, solutions and transforms of the last axes; those before them number problems."""

from __future__ import annotations

from ._registry import AxisTransfer, keep, rule, shape_of

_MATRICES = """
    cholesky eig eigh hessenberg householder_product lu qr schur svd symmetric_product tridiagonal
"""


def _apart(eqn, within: int):
    """Where the last `within` axes of the first operand are one problem."""
    problems = keep(len(shape_of(eqn.invars[0])) - within)
    operands = [(*problems, *(None,) * (len(shape_of(v)) - len(problems))) for v in eqn.invars]
    return [operands] * len(eqn.outvars)


@rule(*_MATRICES.split(), cheap=False)
def of_matrices(eqn):
    """Each matrix by itself."""
    return _apart(eqn, 2)


@rule("lu_pivots_to_permutation", "tridiagonal_solve", cheap=False)
def of_vectors(eqn):
    """Each vector, or each triple of diagonals, by itself."""
    return _apart(eqn, 1)


@rule("fft", cheap=False)
def fft(eqn):
    """The transformed axes, the last ones, are mixed."""
    return _apart(eqn, len(eqn.params["fft_lengths"]))


@rule("triangular_solve", cheap=False)
def triangular_solve(eqn):
    """Right-hand sides stay apart, too."""
    ((matrix, sides),) = _apart(eqn, 2)
    right: list[AxisTransfer] = list(sides)
    axis = len(right) - (1 if eqn.params["left_side"] else 2)
    right[axis] = (axis, 0, 0)
    return [[matrix, tuple(right)]]
