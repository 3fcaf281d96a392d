"""Every fact about JAX that changed between versions, named after the version that changed it.

Nothing else in jscg looks at `jax.__version_info__` or at parameters that JAX has renamed.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.extend.core as jex_core
from jax.extend import source_info_util

JAX_GE_0_11_0 = jax.__version_info__ >= (0, 11, 0)


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """Returns (number of consts, number of carries) of a `scan` equation."""
    if JAX_GE_0_11_0:  # num_consts and num_carry became one flat tree
        consts, carry, _ = (len(group) for group in params["ft_in"].unpack())
        return consts, carry
    return params["num_consts"], params["num_carry"]


def open_jaxpr(jaxpr: Any) -> tuple[Any, list[Any]]:
    """Returns (jaxpr, consts) of an equation's sub-jaxpr, closed or not."""
    # Up to 0.10 ClosedJaxpr and Jaxpr are two classes; from 0.11 on they are one.
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def expanded(eqn: Any) -> Any:
    """What one of JAX's own high-level primitives is made of, traced; None of other people's."""
    # From 0.11 on `searchsorted` and a few more are such; no public function expands them.
    prim = eqn.params["_prim"]
    if not type(prim).__module__.startswith("jax."):
        return None
    avals = jax.tree.unflatten(prim.in_tree, [v.aval for v in eqn.invars])
    return jax.make_jaxpr(prim.expand)(*avals)


def bind(eqn: Any, *args: Any) -> list[Any]:
    """Runs one equation at `args`, under the contexts that it was traced in."""
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    params = eqn.primitive.get_bind_params(eqn.params)
    with source_info_util.user_context(eqn.source_info.traceback, name_stack=stack):
        with eqn.ctx.manager:
            out = eqn.primitive.bind(*args, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def bind_all(eqns: list[Any], env: dict[Any, Any]) -> None:
    """Runs equations in a row on the values in `env`, and writes their results there.

    Each has its contexts, as in `bind`; those that it shares with the one before stay entered.
    """
    outer = source_info_util.current_name_stack()
    names = stack = None
    for context, alike in itertools.groupby(eqns, key=lambda eqn: eqn.ctx):
        with context.manager:
            for eqn in alike:
                source = eqn.source_info
                if stack is None or source.name_stack is not names:
                    names = source.name_stack
                    stack = outer + names
                args = [v.val if isinstance(v, jex_core.Literal) else env[v] for v in eqn.invars]
                params = eqn.primitive.get_bind_params(eqn.params)
                with source_info_util.user_context(source.traceback, name_stack=stack):
                    out = eqn.primitive.bind(*args, **params)
                if eqn.primitive.multiple_results:
                    env.update(zip(eqn.outvars, out, strict=True))
                else:
                    env[eqn.outvars[0]] = out
