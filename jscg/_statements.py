"""What a user says in a function about its draws: identities that jscg reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._errors import ArgumentTypeError
from ._primitives import baseline_p, control_variate_p, relaxed_p, stop_influence_p


def baseline(x: jax.Array, b: Any) -> jax.Array:
    """Declares b as the baseline of the draw that produced x, and returns x.

    The cost-to-go of the draw is compared with b (Schulman et al. 2015, Theorem 2).  b may depend
    on whatever the draw does not influence; that is checked.  Where b depends on arguments in
    `argnums`, their gradient is that of the squared error between b and the cost-to-go, in the
    units of one summand of the objective: for a mean over a batch, of one example's cost.  So one
    optimiser step trains the model and its baselines.  Costs that are enumerated over the draw need
    no baseline and are left out, but where one is fitted beside b (over a batch, by default): there
    b learns the whole cost-to-go, their expectation included, less noise of mean zero.

    Args:
      x: a drawn value, of shape `(*batch, *unit)`, as the sampler returned it.
      b: float, of shape `(*batch,)` or any other leading part of the shape of x.

    Returns:
      x.

    Raises:
      JscgError: when the gradient is taken, if the draw influences b, or x is no draw.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def loss(params, key):
      ...     x = jax.random.bernoulli(key, jax.nn.sigmoid(params["logits"]), (8, 3))
      ...     x = jscg.baseline(x, jnp.broadcast_to(params["b"], (8,)))
      ...     return jnp.mean(jnp.sum(x, -1) ** 2.0)
      >>> params = {"logits": jnp.zeros(3), "b": 3.0}
      >>> g = jscg.grad_expectation(loss)(params, jax.random.key(0))
      >>> sorted(g)
      ['b', 'logits']
    """
    b = jnp.asarray(b)
    if not jnp.issubdtype(b.dtype, jnp.floating):
        raise ArgumentTypeError(f"jscg: a baseline must be a float array, but got {b.dtype.name}.")
    return baseline_p.bind(jnp.asarray(x), b)


def control_variate(
    x: jax.Array,
    c: Callable[[jax.Array], jax.Array],
    num_classes: int | None = None,
    temperature: float = 0.5,
) -> jax.Array:
    r"""Declares c as a control variate for the draw that produced x, and returns x.

    .. math::
       (Q - c(r')) \nabla_\theta \log p(x; \theta) + \nabla_\theta c(r) - \nabla_\theta c(r')

    takes the place of the score, Q times the gradient of log p(x), of a Bernoulli or categorical
    draw with cost-to-go Q: RELAX (Grathwohl et al. 2018, equation 7; with the cost itself as c, it
    is REBAR).  r is a relaxed sample as a function of noise, r' the same number as a function of
    noise drawn given x.  What c depends on, among the arguments in `argnums`, gets as its gradient
    that of the square of the estimate, summed over the derivatives in the logits of all elements:
    one optimiser step trains the model and its control variate.  Stop the gradient of what is not
    to be trained.  A draw with a control variate has no other baseline.

    Args:
      x: a drawn value, of shape `(*batch, *unit)`, as the sampler returned it.
      c: a function of the relaxed sample: floats in (0, 1) of the shape of x in the place of truth
        values, or weights of classes, of the shape of x and a last axis.  Returns floats of shape
        `(*batch,)`, or of any other leading part of the shape of x, each of them computed of its
        own elements of x.  It must be continuous; that is checked.
      num_classes: of a categorical draw; None for a Bernoulli draw.
      temperature: of the relaxed sample.

    Returns:
      x.

    Raises:
      JscgError: when the gradient is taken, if x is no draw of so many outcomes, or c
        depends on it in another way.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def loss(params, key):
      ...     x = jax.random.bernoulli(key, jax.nn.sigmoid(params["logits"]), (8, 3))
      ...     c = lambda r: params["c"] * jnp.sum(r, -1) ** 2
      ...     x = jscg.control_variate(x, c)
      ...     return jnp.mean(jnp.sum(x, -1) ** 2.0)
      >>> params = {"logits": jnp.zeros(3), "c": 1.0}
      >>> g = jscg.grad_expectation(loss)(params, jax.random.key(0))
      >>> sorted(g)
      ['c', 'logits']
    """
    x = jnp.asarray(x)
    if (num_classes is None) != (x.dtype == bool):
        raise ArgumentTypeError(
            "jscg: a control variate is for truth values, or for classes of which there are "
            f"num_classes, but got {x.dtype.name} and num_classes={num_classes}."
        )
    r = relaxed_p.bind(x, classes=num_classes or 0, temperature=float(temperature))
    value = jnp.asarray(c(r))
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ArgumentTypeError(f"jscg: a control variate is a float, but got {value.dtype.name}.")
    return control_variate_p.bind(x, r, value)


def stop_influence(x: Any) -> Any:
    """Declares that no draw influences x, and returns x.

    The counterpart of `jax.lax.stop_gradient` for scores: costs that are computed from x are not
    credited to the draws that x was computed from.  That biases the gradient unless the influence
    that jscg sees is not really there.  Derivatives pass.

    Args:
      x: an array, or a pytree of arrays.

    Returns:
      x.

    Example:
      >>> import jax, jscg
      >>> def f(p, key):
      ...     x = jax.random.bernoulli(key, p)
      ...     return jscg.stop_influence(5.0 * x)
      >>> float(jscg.grad_expectation(f)(0.5, jax.random.key(0)))
      0.0
    """
    return jax.tree.map(lambda leaf: stop_influence_p.bind(jnp.asarray(leaf)), x)
