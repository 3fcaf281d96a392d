"""The primitives by which a traced program speaks to jscg.

`draw` is one call of a `jax.random` sampler, kept whole.  `baseline`, `control_variate`,
`expectation` and `stop_influence` are identities that carry a statement of the user.  None of these
survives in a rewritten program.  `relaxed` stands for the relaxed copy of a draw, `redraw` for a
key that may be exchanged.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from ._context import plain_jax, tracing
from ._errors import refuse_derivative, refuse_unscored
from .draws import FAMILIES

# draw ------------------------------------------------------------------------------------------
#
# Parameters of a draw: `family`; `names` of its array operands (the key comes before them);
# `static`, the other keyword arguments; `batch`, for each vmap around it, outermost first, which
# of (key, *operands) it maps over, always along their leading axis.

MARKS = {"draw", "baseline", "control_variate", "expectation", "stop_influence"}
draw_p = jex_core.Primitive("draw")


def typed(key: Any) -> Any:
    """A key as a typed one."""
    if jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def map_batch(fun, batch: tuple[tuple[bool, ...], ...]):
    """Maps `fun(key, *operands)` once for each level of a draw's `batch`."""
    for mapped in reversed(batch):
        fun = jax.vmap(fun, in_axes=tuple(0 if m else None for m in mapped))
    return fun


def expand(key, *operands, family: str, names: tuple[str, ...], static: tuple, batch: tuple):
    """Draws by plain `jax.random`, with a right derivative."""
    rule = FAMILIES[family]

    def sample(key, *operands):
        kwargs = dict(zip(names, operands, strict=True))
        if rule.replay is not None:
            return rule.replay(key, dict(static), **kwargs)
        return getattr(jax.random, family)(key, **kwargs, **dict(static))

    with plain_jax():
        return map_batch(sample, batch)(key, *operands)


def replay(key, *operands, **params):
    """Draws again; inside another trace of jscg this is a draw of that trace."""
    if tracing():
        return draw_p.bind(key, *operands, **params)
    return expand(key, *operands, **params)


def _draw_abstract(key, *operands, **params):
    return _typed_as(functools.partial(expand, **params), key, *operands)


def _typed_as(fun, *avals):
    """The type of the array that a function returns, its sharding and manual axes included."""
    (out,) = jax.make_jaxpr(fun)(*avals).out_avals
    return out.update(weak_type=False)


def _draw_batch(args, dims, *, batch, **params):
    args = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    mapped = tuple(d is not None for d in dims)
    return draw_p.bind(*args, batch=(mapped, *batch), **params), 0


def _draw_jvp(primals, tangents, **params):
    key, *operands = primals
    rule = FAMILIES[params["family"]]
    if rule.observed and not rule.discrete:
        return draw_p.bind(*primals, **params), tangents[0]
    still = all(isinstance(t, ad.Zero) for t in tangents[1:])
    if rule.discrete and not still and not tracing():
        raise refuse_unscored(params["family"])
    if rule.discrete or still:
        out = draw_p.bind(*primals, **params)
        return out, ad.Zero(jax.typeof(out).to_tangent_aval())
    tangents = [ad.instantiate_zeros(t) for t in tangents[1:]]
    return jax.jvp(functools.partial(expand, key, **params), operands, tangents)


draw_p.def_impl(expand)
draw_p.def_abstract_eval(_draw_abstract)
batching.primitive_batchers[draw_p] = _draw_batch
ad.primitive_jvps[draw_p] = _draw_jvp
mlir.register_lowering(draw_p, mlir.lower_fun(expand, multiple_results=False))

# baseline(x, b) and stop_influence(x) ----------------------------------------------------------

baseline_p = jex_core.Primitive("baseline")
stop_influence_p = jex_core.Primitive("stop_influence")


def _marker(primitive: Any, jvp) -> None:
    """Gives an identity on its first operand the rules of an identity."""
    primitive.def_impl(lambda x, *_: x)
    primitive.def_abstract_eval(lambda x, *_: x)
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x, *_: x, multiple_results=False))
    ad.primitive_jvps[primitive] = jvp

    def batch(args, dims):
        size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
        args = [
            jnp.broadcast_to(x, (size, *jnp.shape(x))) if d is None else jnp.moveaxis(x, d, 0)
            for x, d in zip(args, dims, strict=True)
        ]
        return primitive.bind(*args), 0

    batching.primitive_batchers[primitive] = batch


def _baseline_jvp(primals, tangents):
    # The tangent of b is dropped: what b learns comes from the rewritten program alone.
    return baseline_p.bind(*primals), tangents[0]


def _stop_influence_jvp(primals, tangents):
    return stop_influence_p.bind(*primals), tangents[0]


_marker(baseline_p, _baseline_jvp)
_marker(stop_influence_p, _stop_influence_jvp)

# relaxed(x), one number for a truth value or weights of classes, and control_variate(x, relaxed, c)

relaxed_p = jex_core.Primitive("relaxed")
control_variate_p = jex_core.Primitive("control_variate")
_marker(control_variate_p, lambda p, t: (control_variate_p.bind(*p), t[0]))


def _codes(x, *, classes, temperature):
    return jax.nn.one_hot(x, classes) if classes else jnp.asarray(x, jnp.float32)


def _relaxed_jvp(primals, tangents, **params):
    out = relaxed_p.bind(*primals, **params)
    return out, ad.Zero(jax.typeof(out).to_tangent_aval())


relaxed_p.def_impl(_codes)
relaxed_p.def_abstract_eval(lambda x, **params: _typed_as(functools.partial(_codes, **params), x))
mlir.register_lowering(relaxed_p, mlir.lower_fun(_codes, multiple_results=False))
ad.primitive_jvps[relaxed_p] = _relaxed_jvp
batching.primitive_batchers[relaxed_p] = lambda args, dims, **params: (
    relaxed_p.bind(jnp.moveaxis(args[0], dims[0], 0), **params),
    0,
)

# expectation(estimate, *keys) -------------------------------------------------------------------
#
# The estimate of an expectation, and the keys that its samples were drawn with.

expectation_p = jex_core.Primitive("expectation")


def _expectation_jvp(primals, tangents):
    if tracing() and not isinstance(tangents[0], ad.Zero):
        raise refuse_derivative()
    return expectation_p.bind(*primals), tangents[0]


_marker(expectation_p, _expectation_jvp)
# The keys are there to be looked at: they need not be mapped when the estimate is.
batching.primitive_batchers[expectation_p] = lambda args, dims: (
    expectation_p.bind(*args),
    dims[0],
)

# redraw(key, chosen) ----------------------------------------------------------------------------
#
# The key, or another one where `chosen` is `number`: so one compiled program can draw any of its
# draws anew.

redraw_p = jex_core.Primitive("redraw")
_ANEW = 0x5C9_8000


def _redraw(key, chosen, *, number):
    fold = lambda k: jax.random.fold_in(k, _ANEW)  # noqa: E731
    for _ in range(key.ndim - (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1)):
        fold = jax.vmap(fold)
    return jnp.where(chosen == number, fold(key), key)


def _redraw_jvp(primals, tangents, **params):
    out = redraw_p.bind(*primals, **params)
    return out, ad.Zero(jax.typeof(out).to_tangent_aval())


redraw_p.def_impl(_redraw)
ad.primitive_jvps[redraw_p] = _redraw_jvp
redraw_p.def_abstract_eval(lambda key, chosen, **_: key)
mlir.register_lowering(redraw_p, mlir.lower_fun(_redraw, multiple_results=False))
batching.primitive_batchers[redraw_p] = lambda args, dims, **params: (
    redraw_p.bind(jnp.moveaxis(args[0], dims[0], 0), args[1], **params),
    0,
)
