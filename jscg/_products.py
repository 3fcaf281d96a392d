"""Products of many matrices with one, as products of two matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from ._compat import bind_all, open_jaxpr
from ._program import Literal
from ._sharding import spec_of


def with_flat_products(fun: Callable, *args: Any) -> Any:
    """Runs a function with the leading axes of what is multiplied by a matrix made one.

    The derivative in that matrix then sums over one axis.  XLA copies an operand that is summed
    over several into another layout first, which on a CPU takes as long as the product.
    """
    closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*args)
    jaxpr, consts = open_jaxpr(closed)
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env |= dict(zip(jaxpr.invars, jax.tree.leaves(args), strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, Literal) else env[v]

    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general" and _is_flat(eqn):
            left, right = map(read, eqn.invars)
            (_, axes), _ = eqn.params["dimension_numbers"]
            rows = left.reshape(-1, left.shape[-1])
            out = lax.dot_general(
                rows,
                right,
                (((1,), axes), ((), ())),
                precision=eqn.params["precision"],
                preferred_element_type=eqn.params["preferred_element_type"],
            )
            env[eqn.outvars[0]] = out.reshape(eqn.outvars[0].aval.shape)
        else:
            bind_all([eqn], env)
    return jax.tree.unflatten(jax.tree.structure(shapes), [read(v) for v in jaxpr.outvars])


def _is_flat(eqn: Any) -> bool:
    """Whether rows, on more than one axis, are multiplied by what all of them share."""
    (axes, _), batch = eqn.params["dimension_numbers"]
    ndim = len(eqn.invars[0].aval.shape)
    whole = not any(spec_of(eqn.invars[0].aval))  # no axis is spread over devices
    return whole and batch == ((), ()) and tuple(axes) == (ndim - 1,) and ndim > 2
