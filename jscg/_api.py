"""The public functions."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ._arguments import check_floats
from ._calls import compiled
from ._chunks import gradient_in_chunks
from ._errors import ArgumentError, ArgumentTypeError
from ._trace import Options, trace
from .estimators import Estimator

Estimators = Estimator | Mapping[str, Estimator] | None


def surrogate(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
) -> Callable:
    """Creates a function whose derivatives are unbiased for those of the expectation of `fun`.

    The surrogate loss of Schulman et al. (2015, Corollary 1), in the form that can be
    differentiated as often as you like, in forward and in reverse mode (Foerster et al. 2018).

    Args:
      fun: a pure function that draws with `jax.random` and returns a float scalar, or a pair of
        that and auxiliary data.  The key is one of its arguments.
      argnums: the positional argument or arguments to differentiate with respect to.  Draws whose
        parameters do not depend on them differentiably are not scored.
      has_aux: whether `fun` returns a pair (cost, auxiliary data).
      num_samples: how many samples to average; above one, each is the others' baseline.
        Auxiliary data then gets a leading axis of this size.
      estimators: one estimator for all draws, or a mapping from names of draws (or of samplers)
        to estimators; `estimators.Auto()` for all others.
      key_argnums: which arguments are keys, for `num_samples` with legacy uint32 keys.

    Returns:
      A function with the arguments of `fun`.  Its value is an unbiased estimate of E[fun], where
      costs that are enumerated enter with their expectation, and all others with their sample.

    Raises:
      JscgError: where the gradient would be biased, or an argument makes no sense.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def f(p, key):  # E[f] = p^3, in three draws that depend on each other
      ...     x = jax.random.bernoulli(key, p, (3,))
      ...     return jnp.prod(x.astype(float))
      >>> keys = jax.random.split(jax.random.key(0), 20_000)
      >>> second = jax.grad(jax.grad(jscg.surrogate(f)))
      >>> estimate = jax.vmap(second, (None, 0))(0.5, keys).mean()  # 6 p = 3
      >>> bool(abs(estimate - 3.0) < 0.2)
      True
    """
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums)
    return compiled(fun, options, "surrogate", functools.partial(_surrogate, options))


def _surrogate(options: Options, fun: Callable) -> Callable:
    def surrogate_fun(*args, **kwargs):
        rewriter, inputs, tree = trace(fun, options, args, kwargs)
        cost, aux = jax.tree.unflatten(tree, rewriter(inputs))
        return (cost, aux) if options.has_aux else cost

    return surrogate_fun


def value_and_grad_expectation(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    chunk_size: int | None = None,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
) -> Callable:
    """Creates a function that estimates E[fun] and its gradient, as `jax.value_and_grad` does.

    Args:
      fun: see `surrogate`.
      argnums: see `surrogate`.
      has_aux: see `surrogate`.
      num_samples: see `surrogate`.
      chunk_size: see `grad_expectation`.
      estimators: see `surrogate`.
      key_argnums: see `surrogate`.

    Returns:
      A function with the arguments of `fun` that returns (value, gradient), or
      ((value, aux), gradient) if `has_aux`.  Both are unbiased.  The gradient has the structure,
      shapes and dtypes of the arguments `argnums`; parameters of baselines get the gradient of
      their regression (see `baseline`).

    Raises:
      JscgError: where the gradient would be biased, or an argument makes no sense.
      TypeError: as `jax.value_and_grad`, for inputs or outputs that have no gradient.

    Example:
      >>> import jax, jscg
      >>> def f(p, key):
      ...     return 2.0 * jax.random.bernoulli(key, p)
      >>> jscg.value_and_grad_expectation(f)(0.25, jax.random.key(0))
      (Array(0.5, dtype=float32), Array(2., dtype=float32, weak_type=True))
    """
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums, chunk_size)
    return _first_order(fun, options, jax.value_and_grad, argnums)


def grad_expectation(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    chunk_size: int | None = None,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
) -> Callable:
    """Creates a function that estimates the gradient of the *expectation* of `fun`.

    `jax.grad` of a function that draws differentiates one run and misses how the parameters
    change what is drawn: it returns zeros for discrete draws.  This is the estimator of
    Schulman et al. (2015, Theorem 1), with every cost credited to the draws that influence it,
    element by element and step by step.

    Args:
      fun: a pure function that draws with `jax.random` and returns a float scalar, or a pair of
        that and auxiliary data.  The key is one of its arguments.
      argnums: the positional argument or arguments to differentiate with respect to.  Draws whose
        parameters do not depend on them differentiably are not scored.
      has_aux: whether `fun` returns a pair (cost, auxiliary data).
      num_samples: how many samples to average; above one, each is the others' baseline.
        Auxiliary data then gets a leading axis of this size.
      chunk_size: how many samples are run at once; it must divide `num_samples`.  The result is
        that of all at once, to rounding, with the memory that one chunk needs.  Baselines are over
        all samples: where there are any, the program is run twice, once without derivatives, and
        the result cannot be differentiated again.  Baselines that are fitted or optimal over all
        samples are refused, but for those to the cost at the means, in whose place there are
        leave-one-out baselines.  Where `Coupled` picks one element of a draw, it picks another one.
      estimators: one estimator for all draws, or a mapping from names of draws (or of samplers)
        to estimators; `estimators.Auto()` for all others.
      key_argnums: which arguments are keys, for `num_samples` with legacy uint32 keys.

    Returns:
      A function with the arguments of `fun` that returns the gradient with respect to `argnums`,
      or (gradient, aux) if `has_aux`.

    Raises:
      JscgError: where the gradient would be biased, or an argument makes no sense.
      TypeError: as `jax.grad`, for inputs or outputs that have no gradient.

    Example:
      >>> import jax, jscg
      >>> def f(p, key):
      ...     return 2.0 * jax.random.bernoulli(key, p)
      >>> float(jax.grad(f)(0.25, jax.random.key(0)))  # silently wrong
      0.0
      >>> float(jscg.grad_expectation(f)(0.25, jax.random.key(0)))
      2.0

      A million samples, a thousand at a time:

      >>> many = jscg.grad_expectation(f, num_samples=2**20, chunk_size=2**10)
      >>> bool(abs(many(0.25, jax.random.key(0)) - 2.0) < 0.05)
      True
    """
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums, chunk_size)
    return _first_order(fun, options, jax.grad, argnums)


def _first_order(fun: Callable, options: Options, grad: Callable, argnums: Any) -> Callable:
    options = dataclasses.replace(options, purpose="first order")
    single = not isinstance(argnums, Sequence)

    def make(fun: Callable) -> Callable:
        which = options.argnums[0] if single else options.argnums
        if options.chunk_size is not None:
            return gradient_in_chunks(fun, options, which, grad is jax.value_and_grad)
        derive = grad(_surrogate(options, fun), which, options.has_aux)

        def derived(*args, **kwargs):
            check_floats(fun, options.argnums, args)
            return derive(*args, **kwargs)

        return derived

    return compiled(fun, options, (grad, single), make)


def options_of(argnums, has_aux, num_samples, estimators, key_argnums, chunk_size=None) -> Options:
    """Checks what `surrogate` or `grad_expectation` was asked for."""
    num_samples = count_of_samples(num_samples)
    if isinstance(estimators, Mapping):
        estimators = tuple(sorted(estimators.items()))
    for e in [e for _, e in estimators] if isinstance(estimators, tuple) else [estimators]:
        if e is not None and not isinstance(e, Estimator):
            raise ArgumentTypeError(
                "jscg: estimators must be an estimator (jscg.estimators.ScoreFunction(), say) or "
                f"a mapping from names of draws to estimators, but got {e!r}."
            )
    return Options(
        positions(argnums),
        has_aux,
        num_samples,
        () if key_argnums is None else positions(key_argnums),
        estimators,
        chunk_size=_chunk_of(num_samples, chunk_size),
    )


def _chunk_of(num_samples: int, chunk_size: Any) -> int | None:
    """Checks how many samples are run at once; None for all."""
    if chunk_size is None:
        return None
    chunk_size = count_of_samples(chunk_size, "chunk_size")
    if num_samples % chunk_size:
        raise ArgumentError(
            f"jscg: chunk_size={chunk_size} does not divide num_samples={num_samples}."
        )
    if chunk_size == 1 < num_samples:
        raise ArgumentError("jscg: chunk_size must be at least 2.")
    return None if chunk_size == num_samples else chunk_size


def count_of_samples(num_samples: Any, name: str = "num_samples") -> int:
    """Checks that it is one."""
    if isinstance(num_samples, bool) or not hasattr(num_samples, "__index__"):
        raise ArgumentTypeError(f"jscg: {name} must be an integer, but got {num_samples!r}.")
    if operator.index(num_samples) < 1:
        raise ArgumentError(f"jscg: {name} must be at least 1, but got {num_samples}.")
    return operator.index(num_samples)


def positions(argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Argument numbers, one or more, as a tuple."""
    try:
        if isinstance(argnums, Sequence):
            return tuple(operator.index(i) for i in argnums)
        return (operator.index(argnums),)
    except TypeError:
        raise ArgumentTypeError(
            "jscg: argnums must be an integer or a sequence of integers, but got "
            f"{type(argnums).__name__}. The arguments of the function go to what is returned: "
            "jscg.grad_expectation(fun)(params, key)."
        ) from None
