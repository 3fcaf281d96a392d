"""Samplers of the user's own: a simulator, a rejection loop, a callback."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._context import tracing
from ._errors import ArgumentError
from ._primitives import draw_p, stop_influence_p, typed


def sampler(
    log_prob: Callable[..., Any],
    *,
    support: Sequence[float] | None = None,
    reparameterized: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Teaches jscg a sampler of yours: its draws are scored with the log-prob that you give.

    Nothing is differentiated through the sampler itself, so that it may be anything that JAX can
    trace: a rejection loop, a `jax.pure_callback`, a simulator.  Outside of jscg it stays the
    function that it was, but for a derivative of zero.  A *reparameterised* one is differentiated
    through, and scored only where the program jumps behind it.

    Args:
      log_prob: `log_prob(x, *args, **kwargs)`, the log of the probability (or of the density) of
        every independent outcome of `x`, with the arguments of the sampler after the key.  Its
        shape is that of `x` without trailing axes that belong to one outcome.  It must be
        differentiable in what a gradient is wanted for, and no support may move with that.
      support: all outcomes of one element, numbers, if they are few: then they can be enumerated.
        Without, an array of floats is taken as continuous, so that comparing it with a parameter
        is refused: return counts as integers.
      reparameterized: whether the derivative of the sampler, as JAX finds it or as a rule of its
        own says, is that of a draw from its law.  It is believed; jumps inside of the sampler are
        not looked for.

    Returns:
      A decorator of `fun(key, *args, **kwargs) -> x`, with `x` one array.

    Raises:
      JscgError: when jscg traces a call of the decorated function and the shapes of `x` and
        of its log-prob do not agree; at once, when a sampler with a support is to be
        reparameterised, or a support is not a list of numbers.

    The score function is that of Schulman et al. (2015), Theorem 1.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> @jscg.sampler(lambda x, rate: x * jnp.log(rate) - rate)
      ... def counts(key, rate):  # arrivals in one unit of time
      ...     return jnp.sum(jnp.cumsum(jax.random.exponential(key, (100,))) < rate)
      >>> def mean(rate, key):
      ...     return jnp.float32(counts(key, rate))
      >>> keys = jax.random.split(jax.random.key(0), 10_000)
      >>> g = jax.vmap(jscg.grad_expectation(mean), (None, 0))(3.0, keys)
      >>> round(float(g.mean()), 1)
      1.0
    """
    if reparameterized and support is not None:
        raise ArgumentError(
            "jscg: a sampler whose outcomes are listed has no derivative through its draws: leave "
            "out support or reparameterized."
        )

    if support is not None and np.ndim(support) != 1:
        raise ArgumentError(
            "jscg: the outcomes in support must be numbers, a list of them. Let the sampler return "
            "the number of an outcome, support=range(n), and look the outcome up behind it."
        )

    def decorate(fun: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fun)
        def draw(key: Any, *args: Any, **kwargs: Any) -> Any:
            fixed, named = jax.tree.map(lax.stop_gradient, (args, kwargs))
            if reparameterized:
                drawn = stop_influence_p.bind(jnp.asarray(fun(key, *args, **kwargs)))
            else:
                drawn = lax.stop_gradient(jnp.asarray(fun(key, *fixed, **named)))
            if not tracing():
                return drawn
            x = lax.stop_gradient(drawn)
            log_p = jnp.asarray(log_prob(x, *args, **kwargs))
            if log_p.shape != x.shape[: log_p.ndim]:
                raise ArgumentError(
                    f"jscg: the sampler {fun.__name__!r} returned an array of shape {x.shape}, and "
                    f"its log_prob one of shape {log_p.shape}. The log-prob must have the leading "
                    "axes of the draw, one number for each independent outcome."
                )
            static: tuple = (("event_ndim", x.ndim - log_p.ndim),)
            operands = {"source": typed(key), "log_prob": log_p}
            if support is not None:
                each = [log_prob(jnp.full_like(x, v), *args, **kwargs) for v in support]
                operands["log_probs"] = jnp.stack(each, -1)
                values = tuple(np.asarray(support).tolist())
                static += (("dtype", x.dtype.name), ("support", values))
            return draw_p.bind(
                drawn,
                *operands.values(),
                family="reparameterized" if reparameterized else "sampler",
                names=tuple(operands),
                static=static,
                batch=(),
            )

        return draw

    return decorate
