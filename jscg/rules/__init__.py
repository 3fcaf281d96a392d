"""How influence passes through JAX's primitives: one small file for each kind of primitive.

A rule tells, for every output and every operand of an equation, where each axis of the operand
goes: to None (mixed), or to `(axis, lo, hi)`: the output at index i of `axis` reads the operand at
indices i+lo .. i+hi.  The operand may also be `CUT`: it does not influence the output.  An
equation without a rule mixes everything, which is always sound: a score that multiplies one cost
too many has mean zero.

To add a primitive, add `@rule("its_name")` to a file here.
"""

from . import dot, elementwise, indexing, reductions, shapes
from ._registry import CUT, RULES, Transfer, keep, rule

__all__ = [
    "CUT",
    "RULES",
    "Transfer",
    "keep",
    "rule",
    "dot",
    "elementwise",
    "indexing",
    "reductions",
    "shapes",
]
