"""Primitives that work element by element."""

from __future__ import annotations

from ._registry import CUT, keep, rule, shape_of

_NAMES = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e box cbrt
    ceil clamp clz complex conj convert_element_type copy cos cosh digamma div eq erf erf_inv
    erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le
    le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi name ne neg nextafter not
    once one_minus_square or pbroadcast polygamma polynomial population_count pow pvary real
    reduce_precision regularized_incomplete_beta rem round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan
    tanh xor zeta
"""


@rule(*_NAMES.split())
def elementwise(eqn):
    """Axis i stays axis i; an operand without axes, or with an axis of 1, feeds every element."""
    out = shape_of(eqn.outvars[0])
    ndim, transfers = len(out), []
    for v in eqn.invars:
        shape = shape_of(v)
        if shape == out:
            transfers.append(keep(ndim))
        elif len(shape) != ndim:
            transfers.append(())
        else:  # lax broadcasts axes of length 1
            pairs = zip(shape, out, strict=True)
            transfers.append(tuple((i, 0, 0) if m == n else None for i, (m, n) in enumerate(pairs)))
    return [transfers]


@rule("bitcast_convert_type")
def bitcast(eqn):
    """Parts of a number are an axis of their own, the last, on the side where they are smaller."""
    ndim, out = (len(shape_of(v)) for v in (eqn.invars[0], eqn.outvars[0]))
    return [[(*keep(min(ndim, out)), *(None,) * (ndim - out))]]


@rule("optimization_barrier", "device_put", "reshard", "sharding_constraint")
def one_to_one(eqn):
    """Output k is operand k."""
    operands = [keep(len(shape_of(v))) for v in eqn.invars]
    return [[op if i == k else CUT for i, op in enumerate(operands)] for k in range(len(operands))]


@rule("baseline")
def baseline(eqn):
    """A baseline changes no value: only x passes."""
    x, b = eqn.invars
    return [[keep(len(shape_of(x))), CUT]]


@rule("relaxed")
def relaxed(eqn):
    """Each element by itself."""
    return [[keep(len(shape_of(eqn.invars[0])))]]


@rule("control_variate")
def control_variate(eqn):
    """A control variate changes no value: only x passes."""
    x, *rest = eqn.invars
    return [[keep(len(shape_of(x))), *(CUT for _ in rest)]]


@rule("first_order")
def first_order(eqn):
    """The witness has no part in the value."""
    return [[keep(len(shape_of(eqn.outvars[0]))), CUT]]


@rule("expectation")
def expectation(eqn):
    """The estimate passes; the keys stand beside it."""
    value, *keys = eqn.invars
    return [[keep(len(shape_of(value))), *(CUT for _ in keys)]]


@rule("stop_influence")
def stop_influence(eqn):
    """The user says that nothing passes."""
    return [[CUT]]
