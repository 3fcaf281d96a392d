"""Gamma draws and those made of them, with the implicit derivative in their shape.

A draw x of shape a moves with a so that F(x; a), its distribution function, stays as it is
(Figurnov, Mohamed and Mnih 2018).  `jax.random` has that derivative too, but on CPUs it computes
one element after the other; and where x is smaller than all numbers of the dtype, it takes the
smallest of them in place of x, though log(x) is exact there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import digamma

from jscg._compat import bind, open_jaxpr
from jscg._program import JITS, Literal
from jscg.draws._family import Family, Static, event_aligned, register, unaligned


def _slope_of_log(log_x: jax.Array, a: jax.Array) -> jax.Array:
    """The derivative of log(x) in a.

    F(x; a) = x^a / Gamma(a + 1) (1 + O(x)), so where x is less than the rounding of one,
    log(x) + (log(u) + log Gamma(a + 1)) / a moves by (digamma(a + 1) - log(x)) / a.
    """
    small = log_x < jnp.log(jnp.finfo(log_x.dtype).eps)
    x = jnp.exp(jnp.where(small, 0, log_x))
    return jnp.where(small, (digamma(a + 1) - log_x) / a, lax.random_gamma_grad(a, x) / x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _moved(drawn: jax.Array, a: jax.Array, log_space: bool) -> jax.Array:
    """The draw, or its logarithm: higher derivatives differentiate through both."""
    return drawn


@_moved.defjvp
def _moved_jvp(log_space: bool, primals, tangents):
    (drawn, a), (_, da) = primals, tangents
    x = _moved(drawn, a, log_space)
    slope = _slope_of_log(x, a) if log_space else lax.random_gamma_grad(a, x)
    return x, slope * da


def _run(jaxpr, consts: list, args: list) -> list:
    """Runs a sampler; its gamma draws move."""
    env = dict(zip(jaxpr.constvars + jaxpr.invars, consts + args, strict=True))

    def read(v):
        return v.val if isinstance(v, Literal) else env[v]

    for eqn in jaxpr.eqns:
        ins = [read(v) for v in eqn.invars]
        if eqn.primitive.name in JITS:
            outs = _run(*open_jaxpr(eqn.params["jaxpr"]), ins)
        elif eqn.primitive.name == "random_gamma":
            key, a = ins
            (drawn,) = bind(eqn, key, lax.stop_gradient(a))
            outs = [_moved(drawn, a, eqn.params["log_space"])]
        else:
            outs = bind(eqn, *ins)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _replay(name: str) -> Callable[..., jax.Array]:
    """The `Family.replay` of a sampler that is made of gamma draws."""

    def replay(key: jax.Array, static: Static, **operands: jax.Array) -> jax.Array:
        names = list(operands)

        def sample(key, *values):
            return getattr(jax.random, name)(key, **dict(zip(names, values, strict=True)), **static)

        args = [key, *operands.values()]
        closed = jax.make_jaxpr(sample)(*args)
        (out,) = _run(closed.jaxpr, closed.consts, args)
        return out

    return replay


_ELEMENTWISE: dict[str, tuple[str, ...]] = {
    "beta": ("a", "b"),
    "chisquare": ("df",),
    "f": ("dfnum", "dfden"),
    "gamma": ("a",),
    "generalized_normal": ("p",),
    "loggamma": ("a",),
    "t": ("df",),
}

for _name, _operands in _ELEMENTWISE.items():
    register(
        Family(
            name=_name,
            operands=_operands,
            discrete=False,
            implicit=True,
            rejects=True,
            replay=_replay(_name),
        )
    )

_JOINT = (("ball", "p", unaligned), ("dirichlet", "alpha", event_aligned(1, alpha=1)))

for _name, _operand, _axes in _JOINT:
    register(
        Family(
            name=_name,
            operands=(_operand,),
            discrete=False,
            implicit=True,
            rejects=True,
            event_ndim=1,
            operand_axes=_axes,
            replay=_replay(_name),
        )
    )
