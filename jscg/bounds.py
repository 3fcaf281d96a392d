"""Variational bounds with K particles, and baselines and path gradients for them.

With a latent z of shape (K, ...) drawn from q, and its log weights log p(x, z) - log q(z | x) of
shape (K, ...), the importance-weighted bound of log p(x) is `log_mean_exp` of the log weights.
Each line below is all that a gradient estimator of the bound takes::

    bound = log_mean_exp(log_weight(q, z))                     # IWAE; VIMCO for discrete z
    z = jscg.baseline(z, vimco(log_weight(q, z)))              # before it, for VIMCO elsewhere
    bound = log_mean_exp(dreg(log_weight, q, z))               # DReG
    bound = jnp.mean(sticking_the_landing(log_weight, q, z))   # STL, of the ELBO

No function here changes the value of anything.  Where log weights are computed twice, XLA merges
the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._errors import ArgumentError, ArgumentTypeError
from ._first_order import first_order
from ._held import hold
from ._statements import stop_influence

__all__ = ["dreg", "log_mean_exp", "sticking_the_landing", "vimco"]


def log_mean_exp(log_weights: jax.Array, axis: int = 0) -> jax.Array:
    r"""The importance-weighted bound of K particles, log(mean of their weights).

    .. math::
       L_K = \log \frac{1}{K} \sum_k w_k

    Its expectation is at most log p(x), and does not fall with K (Burda et al. 2016, equation 8
    and theorem 1); with K = 1 it is the evidence lower bound.

    Args:
      log_weights: float, with the K particles along `axis`.
      axis: of the particles.

    Returns:
      An array of the shape of `log_weights` without `axis`.

    Raises:
      JscgError: if there is no such axis, or no particle.

    Example:
      >>> import jax.numpy as jnp, jscg
      >>> float(jscg.bounds.log_mean_exp(jnp.log(jnp.array([1.0, 2.0, 6.0]))))  # log 3
      1.0986
    """
    log_weights = _checked(log_weights, axis)
    # Outside, log(K) would be a cost that no draw influences, and baselines know nothing of those.
    return jax.nn.logsumexp(log_weights - jnp.log(log_weights.shape[axis]), axis)


def vimco(log_weights: jax.Array, axis: int = 0) -> jax.Array:
    r"""Baselines for the draws of K particles: the bound without what is known of each of them.

    .. math::
       b_k = \log \frac{1}{K} \left( \sum_{j \ne k} w_j
       + \exp \left( \frac{1}{K - 1} \sum_{j \ne k} \log w_j \right) \right)

    (Mnih and Rezende 2016, equations 7 to 10).  Hand them to `jscg.baseline`, with the sign and
    the scale that the bound has in the cost of one example: `-vimco(...)` where its negative is
    minimised.  The default has them by itself where it sees particles meet in a cost; this is for
    loops, and for other estimators.

    b_k does not depend on particle k, so that it is a baseline by Theorem 2 of Schulman et al.
    (2015); the influence that jscg sees, through the weights of all particles, is not there, and
    is taken away by `jscg.stop_influence`.  That is right if the weight of each particle is
    computed from that particle alone, and particles are drawn independently.

    Args:
      log_weights: float, of at least two particles along `axis`.
      axis: of the particles.

    Returns:
      An array of the shape of `log_weights`, without gradient.  It is zero where all other
      weights are.  Takes memory for K times as many numbers.

    Raises:
      JscgError: if there are fewer than two particles, or no such axis.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def loss(q, key):  # p(h) = 1/2, and p(x | h) is 0.9 or 0.3
      ...     def log_weight(h):
      ...         log_q = jnp.where(h, jax.nn.log_sigmoid(q), jax.nn.log_sigmoid(-q))
      ...         return jnp.log(0.5 * jnp.where(h, 0.9, 0.3)) - log_q
      ...     h = jax.random.bernoulli(key, jax.nn.sigmoid(q), (5,))
      ...     h = jscg.baseline(h, -jscg.bounds.vimco(log_weight(h)))
      ...     return -jscg.bounds.log_mean_exp(log_weight(h))
      >>> bool(jscg.check_unbiased(loss)(0.5, jax.random.key(0)))
      True
    """
    log_weights = _checked(log_weights, axis)
    count = log_weights.shape[axis]
    if count < 2:
        raise ArgumentError(
            f"jscg: vimco needs two particles or more, but axis {axis} of the log weights, whose "
            f"shape is {log_weights.shape}, has one.  A particle's baseline is made of the "
            "weights of the others.\nWhat to do instead:\n"
            "  - draw several particles, or say with axis= along which they stand\n"
            "  - leave the baseline to jscg: with num_samples=k each sample is the others' baseline"
        )
    each = jnp.moveaxis(lax.stop_gradient(log_weights), axis, 0)
    own = jnp.eye(count, dtype=bool).reshape(count, count, *(1 for _ in each.shape[1:]))
    # Sums over the others, and no differences from sums over all: weights differ by any factor.
    mean = jnp.sum(jnp.where(own, 0, each), 1, keepdims=True) / (count - 1)
    found = log_mean_exp(jnp.where(own, mean, each), 1)
    found = jnp.where(jnp.isfinite(found), found, 0)
    return stop_influence(jnp.moveaxis(found, 0, axis))


def sticking_the_landing(log_weight: Callable[[Any, Any], jax.Array], q: Any, z: Any) -> jax.Array:
    """Log weights in which the parameters of q have a gradient through z only.

    That leaves out the score of q, whose mean is zero in the gradient of the evidence lower bound,
    the *mean* of log weights: where q is the posterior, every sample of the gradient is then zero
    (the path derivative of Roeder et al. 2017).  In `log_mean_exp` of several particles it would be
    biased: that is what `dreg` is for.

    Args:
      log_weight: `log_weight(q, z)`, log p(x, z) - log q(z | x); what it closes over, the
        parameters of the model among it, is differentiated as ever.
      q: parameters of the law of z, and of no discrete draw; log q must read them from here.
      z: the latents, reparameterised: jscg must differentiate through them, not score them.

    Returns:
      `log_weight(q, z)`.

    Raises:
      JscgError: if z is not of floats; when the gradient is taken, if z is scored; and when a
        second derivative is taken, in which the score would be missed.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> from jax.scipy.stats import norm
      >>> def elbo(q, key):  # of x = 1 from z + noise, with z and the noise from N(0, 1)
      ...     def log_weight(q, z):
      ...         log_q = norm.logpdf(z, q["mean"], jnp.exp(q["log_scale"]))
      ...         return norm.logpdf(z) + norm.logpdf(1.0, z) - log_q
      ...     noise = jax.random.normal(key, (10,))
      ...     z = q["mean"] + jnp.exp(q["log_scale"]) * noise
      ...     return jnp.mean(jscg.bounds.sticking_the_landing(log_weight, q, z))
      >>> posterior = {"mean": 0.5, "log_scale": jnp.log(0.5) / 2}
      >>> g = jscg.grad_expectation(elbo)(posterior, jax.random.key(0))
      >>> abs(float(g["mean"])) < 1e-6, abs(float(g["log_scale"])) < 1e-6
      (True, True)
    """
    _check_floats(z)
    return _once(log_weight(lax.stop_gradient(q), z))


def dreg(log_weight: Callable[[Any, Any], jax.Array], q: Any, z: Any, axis: int = 0) -> jax.Array:
    r"""Log weights from which `log_mean_exp` has the doubly reparameterised gradient.

    .. math::
       \nabla_q L_K = \sum_k W_k^2 \frac{\partial \log w_k}{\partial z_k} \nabla_q z_k,
       \qquad W_k = \frac{w_k}{\sum_j w_j}

    for the parameters q of the law of z (Tucker et al. 2019, equation 8), and the usual gradient,
    weighted with W_k, for everything else.  Unlike that of the bound itself, its signal-to-noise
    ratio does not fall as K grows (Rainforth et al. 2018).

    The parameters of discrete latents are no part of q: `log_weight` closes over them.

    Args:
      log_weight: see `sticking_the_landing`; of shape (K, ...) if `axis` is 0.
      q: see `sticking_the_landing`.
      z: see there; arrays whose shapes begin with that of the log weights.  Where latents depend on
        each other, all of them.
      axis: of the particles.

    Returns:
      `log_weight(q, z)`, to be given to `log_mean_exp` and to nothing else.

    Raises:
      JscgError: if z is not of floats or of such shapes; when the gradient is taken, if z is
        scored, or another draw that is scored has parameters in common with q; and when a second
        derivative is taken.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> from jax.scipy.stats import norm
      >>> def loss(params, key):
      ...     def log_weight(mean, z):
      ...         log_p = norm.logpdf(z, params["prior"]) + norm.logpdf(1.0, z)
      ...         return log_p - norm.logpdf(z, mean, 0.7)
      ...     z = params["q"] + 0.7 * jax.random.normal(key, (64,))
      ...     return -jscg.bounds.log_mean_exp(jscg.bounds.dreg(log_weight, params["q"], z))
      >>> params = {"prior": 0.0, "q": 0.4}
      >>> bool(jscg.check_unbiased(loss)(params, jax.random.key(0)))
      True
    """
    _check_floats(z)
    q = hold(q)
    log_weights = _checked(lax.stop_gradient(log_weight(q, lax.stop_gradient(z))), axis)
    weights = jax.nn.softmax(log_weights, axis)

    def scaled(leaf: jax.Array) -> jax.Array:
        """The same, with its gradient times the weight of its particle."""
        if leaf.shape[: weights.ndim] != weights.shape:
            raise ArgumentError(
                f"jscg: dreg got z of shape {leaf.shape} and log weights of shape {weights.shape}: "
                "the shape of each latent must begin with that of the log weights, one weight for "
                "every particle of every example.\nWhat to do instead:\n"
                "  - sum log-probs over the units of a latent, and over nothing else"
            )
        own = weights.reshape(weights.shape + (1,) * (leaf.ndim - weights.ndim))
        return lax.stop_gradient(leaf) + first_order(own.astype(leaf.dtype) * leaf, jnp.sum(leaf))

    return _once(log_weight(q, jax.tree.map(lambda leaf: scaled(jnp.asarray(leaf)), z)))


def _once(log_weights: jax.Array) -> jax.Array:
    """The same, and an error for a second derivative, mixed ones included."""
    return lax.stop_gradient(log_weights) + first_order(log_weights, jnp.sum(log_weights))


def _checked(log_weights: Any, axis: int) -> jax.Array:
    log_weights = jnp.asarray(log_weights)
    if not jnp.issubdtype(log_weights.dtype, jnp.floating):
        raise ArgumentTypeError(
            f"jscg: log weights must be a float array, but got {log_weights.dtype.name}."
        )
    if not -log_weights.ndim <= axis < log_weights.ndim or log_weights.shape[axis] == 0:
        raise ArgumentError(
            f"jscg: there are no particles along axis {axis} of log weights of shape "
            f"{log_weights.shape}: one log weight for each particle is needed."
        )
    return log_weights


def _check_floats(z: Any) -> None:
    kinds = {jnp.result_type(leaf) for leaf in jax.tree.leaves(z)}
    for kind in kinds:
        if not jnp.issubdtype(kind, jnp.floating):
            raise ArgumentTypeError(
                f"jscg: z must be float arrays, reparameterised, but got {kind.name}: a discrete "
                "draw has no gradient through its sample.\nWhat to do instead:\n"
                "  - let log_weight close over discrete draws, and give them the baseline "
                "jscg.bounds.vimco"
            )
