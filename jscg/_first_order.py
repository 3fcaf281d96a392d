"""Terms that are right in the first derivative only, and say so in the second."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from ._errors import BiasError, refuse
from ._held import Elements, held
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._program import Program


def witness_of(args: list[Any]) -> jax.Array:
    """A number that depends on everything that could be differentiated by."""
    sums = [jnp.sum(x).astype(jnp.float32) for x in args if is_float(x)]
    return functools.reduce(jnp.add, sums, jnp.float32(0))


def is_float(x: Any) -> bool:
    """Whether a value has derivatives."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def first_order(log_prob: jax.Array, witness: jax.Array) -> jax.Array:
    """Zeros with the derivative of `log_prob`, and an error for the second derivative.

    Args:
      log_prob: any array.
      witness: a scalar; the second derivative in anything that it depends on raises.
    """
    return _zero_p.bind(log_prob, witness)


def first_order_only(coefficient: jax.Array, witness: jax.Array) -> jax.Array:
    """A coefficient of a first derivative, and an error where it is differentiated itself."""
    return coefficient * _one_p.bind(coefficient, witness)


def check_reparameterised(
    program: Program, influence: InfluenceMap, active_inputs: list[bool]
) -> None:
    """Refuses gradients through a sample of what is scored: that way was cut.

    Raises:
      BiasError: where `first_order` of the user's own program meets a continuous draw with a score,
        or any whose law has parameters in common with what `jscg.bounds.dreg` holds fixed.
    """
    met: dict[StochasticNode, Any] = {}
    for part in program.walk():
        for eqn in part.eqns:
            if eqn.primitive is _zero_p:
                met |= dict.fromkeys(influence[eqn.invars[0]], eqn)
    for node, eqn in met.items():
        if "noise" in dict(node.eqn.params["static"]):
            raise _refuse_path(
                node,
                eqn,
                "it is scored, with its density, and so has no gradient through its sample, which "
                "is all that jscg.bounds.dreg and sticking_the_landing leave of the gradient of "
                "log weights.",
                "make the cost continuous in it, and choose no estimator for it",
            )
    fixed = held(program) if met else []
    if not fixed:
        return
    elements = Elements(program, active_inputs)
    for node, eqn in met.items():
        if elements.in_common(fixed, [(node.program, v) for v in node.eqn.invars[1:]]):
            raise _refuse_path(
                node,
                eqn,
                "it is scored, and its law depends on parameters that the q of jscg.bounds.dreg "
                "is made of, too.  dreg holds q fixed in the log weights and makes up for that "
                "by the gradient through the latents, which this draw does not have.",
                "give dreg a q that has the parameters of the other latents only; log_weight may "
                "close over those of this draw",
            )


def _refuse_path(node: StochasticNode, eqn: Any, why: str, remedy: str) -> BiasError:
    return refuse(
        node.what,
        node.eqn,
        why,
        "take log weights and bound as they are: log_mean_exp(log_weight(q, z))",
        remedy,
        fault=eqn,
        through=eqn.invars[0],
    )


_zero_p = jex_core.Primitive("first_order")
_one_p = jex_core.Primitive("first_order_only")


def _constant(primitive: jex_core.Primitive, fill) -> None:
    """Gives a primitive the rules of a function that is constant in its operands."""
    primitive.def_impl(lambda x, _: fill(x))
    primitive.def_abstract_eval(lambda x, _: x)
    lowering = mlir.lower_fun(lambda x, _: fill(x), multiple_results=False)
    mlir.register_lowering(primitive, lowering)

    def batch(args, dims):
        size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
        x, witness = args
        at, of_witness = dims
        x = jnp.broadcast_to(x, (size, *x.shape)) if at is None else jnp.moveaxis(x, at, 0)
        # Its number never matters, only that it is there.
        witness = witness if of_witness is None else jnp.sum(witness)
        return primitive.bind(x, witness), 0

    batching.primitive_batchers[primitive] = batch


def _zero_jvp(primals, tangents):
    out, t = _zero_p.bind(*primals), tangents[0]
    return out, t if isinstance(t, ad.Zero) else t * _one_p.bind(*primals)


def _one_jvp(primals, tangents):
    if all(isinstance(t, ad.Zero) for t in tangents):
        out = _one_p.bind(*primals)
        return out, ad.Zero(jax.typeof(out).to_tangent_aval())
    raise BiasError(
        "jscg: a second derivative is taken of an estimator that is unbiased for the first "
        "derivative only (one that compares values of a draw: Coupled, MeasureValued, DisARM and "
        "the like; chunk_size; jscg.bounds.dreg and sticking_the_landing), so it would silently be "
        "wrong.\n"
        "What to do instead:\n"
        "  - differentiate jscg.surrogate(fun), whose default is right to any order, and not "
        "jscg.grad_expectation(fun)\n"
        "  - choose estimators that are: ScoreFunction, Enumerate, Pathwise, Auto\n"
        "  - leave log weights as they are, and chunk_size out\n"
        "  - stop the gradient of the first derivative, if the second is not wanted"
    )


_constant(_zero_p, jnp.zeros_like)
_constant(_one_p, jnp.ones_like)
ad.primitive_jvps[_zero_p] = _zero_jvp
ad.primitive_jvps[_one_p] = _one_jvp
