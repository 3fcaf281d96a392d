"""The errors that jscg raises, and how it says where in the user's code a draw stands."""

from __future__ import annotations

from typing import Any

from jax.extend import source_info_util

from ._source import where


class JscgError(Exception):
    """Base class of every error that jscg raises on purpose.

    Its message names the draw or the argument, the line in your code, and what to do instead.  An
    argument that makes no sense is a `ValueError` or a `TypeError`, too, and what would be biased
    a `NotImplementedError`.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def jumps(mean, key):
      ...     noise = jax.random.normal(key)
      ...     return jnp.floor(mean + noise) + noise
      >>> try:
      ...     jscg.grad_expectation(jumps)(0.3, jax.random.key(0))
      ... except jscg.JscgError as error:
      ...     print(str(error)[:30])
      jscg: the draw 'noise' (normal
    """


class BiasError(JscgError, NotImplementedError):
    """The gradient would be biased, so jscg refuses to compute it."""


class ArgumentError(JscgError, ValueError):
    """An argument of a jscg function has a value that makes no sense."""


class ArgumentTypeError(JscgError, TypeError):
    """An argument or a result has a type or dtype that cannot be differentiated."""


def refuse_unscored(family: str) -> BiasError:
    """Builds the error for a derivative in a parameter of a draw that has no score."""
    line = source_info_util.summarize(source_info_util.current())  # empty inside of a loop
    return BiasError(
        f"jscg: a {family} draw{' at ' if line else ''}{line}: the result of jscg is "
        "differentiated by something that this draw's parameters depend on, and that is not among "
        "argnums: an argument that was left out, or a value of the function around. The draw has "
        "no score for it, which would silently be missing.\n"
        "What to do instead:\n"
        "  - put the argument in argnums, or pass the value as an argument that is\n"
        "  - wrap the parameter in jax.lax.stop_gradient if no gradient is wanted through it"
    )


def refuse_derivative() -> BiasError:
    """Builds the error for a derivative of an estimate that is taken in the function itself."""
    line = source_info_util.summarize(source_info_util.current())
    return BiasError(
        f"jscg: the result of jscg.expectation{' at ' if line else ''}{line} is differentiated "
        "inside of the function that jscg takes apart. Its derivative is an estimate, too, and "
        "jscg does not follow where that goes.\n"
        "What to do instead:\n"
        "  - estimate the derivative: jscg.expectation(jscg.grad_expectation(fun)), or "
        "jscg.expectation(jax.grad(fun)) where fun is differentiated through its samples\n"
        "  - wrap what it is differentiated by in jax.lax.stop_gradient, if that is not wanted"
    )


def refuse(what: str, eqn: Any, why: str, *remedies: str) -> BiasError:
    """Builds the error for a draw that has no unbiased estimator here.

    Args:
      what: the draw, as the user would name it.
      eqn: the equation to point at.
      why: what would be wrong with the gradient.
      *remedies: what to do instead, one phrase each.
    """
    todo = "\n".join(f"  - {remedy}" for remedy in remedies)
    return BiasError(f"jscg: {what} at {where(eqn)}: {why}\nWhat to do instead:\n{todo}")


def missing_extra(what: str, package: str) -> ImportError:
    """Builds the error for a package that only a report needs."""
    return ImportError(
        f"jscg: {what} needs {package}, which is not installed: pip install 'jscg[report]'"
    )
