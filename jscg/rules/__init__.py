"""How influence passes through JAX's primitives: one small file for each kind of primitive.

A rule tells, for every output and every operand of an equation, where each axis of the operand
goes: to None (mixed), or to `(axis, lo, hi)`: the output at index i of `axis` reads the operand at
indices i+lo .. i+hi.  The operand may also be `CUT`: it does not influence the output.  An
equation without a rule mixes everything, which is always sound: a score that multiplies one cost
too many has mean zero.

To add a primitive, add `@rule("its_name")` to a file here; or `@made_by("its_name")`, if a function
that it holds makes its value.
"""

from . import dot, elementwise, indexing, inner, linear_algebra, reductions, shapes
from ._registry import CUT, INNER, RULES, Transfer, keep, made_by, rule

__all__ = [
    "CUT",
    "INNER",
    "RULES",
    "Transfer",
    "keep",
    "made_by",
    "rule",
    "dot",
    "elementwise",
    "indexing",
    "inner",
    "linear_algebra",
    "reductions",
    "shapes",
]
