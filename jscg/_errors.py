"""The errors that jscg raises, and how it says where in the user's code a draw stands."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from jax.extend import source_info_util

from ._source import at_line


class Subject(NamedTuple):
    """What an error is about.

    Attributes:
      draw: the equation of the draw that the message begins with, if it is about one.
      fault: the equation because of which the program is refused; that of the draw, it may be.
      through: the operand by which it is reached, if it matters by which.
      keys: whether it is about what the draw is made with, and not about what is made of it.
    """

    draw: Any
    fault: Any
    through: Any = None
    keys: bool = False


class Here(NamedTuple):
    """In the place of an equation, where Python is."""

    source_info: Any


class JscgError(Exception):
    """Base class of every error that jscg raises on purpose.

    Its message names the draw or the argument, the line in your code, and what to do instead.  An
    argument that makes no sense is a `ValueError` or a `TypeError`, too, and what would be biased
    a `NotImplementedError`.  `jscg.explain()` shows how the program comes to the line of the last.

    Attributes:
      subject: the equations that it is about, as long as their program is not known.
      trail: what `jscg.explain` shows: the same in a program, of which nothing else is kept.

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

    subject: Subject | None = None
    trail: Any = None

    def about(self, draw: Any, fault: Any, through: Any = None, keys: bool = False) -> Self:
        """The error, which knows what it is about."""
        self.subject = Subject(draw, fault, through, keys)
        return self


class BiasError(JscgError, NotImplementedError):
    """The gradient would be biased, so jscg refuses to compute it."""


class ArgumentError(JscgError, ValueError):
    """An argument of a jscg function has a value that makes no sense."""


class ArgumentTypeError(JscgError, TypeError):
    """An argument or a result has a type or dtype that cannot be differentiated."""


def refuse_unscored(family: str) -> BiasError:
    """Builds the error for a derivative in a parameter of a draw that has no score."""
    here = Here(source_info_util.current())
    error = BiasError(
        f"jscg: a {family} draw{at_line(here)}: the result of jscg is "
        "differentiated by something that this draw's parameters depend on, and that is not among "
        "argnums: an argument that was left out, a value of the function around, or one within an "
        "operation that jscg does not look into (custom_root, custom_vmap). The draw has no score "
        "for it, which would silently be missing.\n"
        "What to do instead:\n"
        "  - put the argument in argnums, or pass the value as an argument that is\n"
        "  - draw outside of such an operation, and pass it the drawn value\n"
        "  - wrap the parameter in jax.lax.stop_gradient if no gradient is wanted through it"
    )
    return error.about(here, here)


def refuse_derivative() -> BiasError:
    """Builds the error for a derivative of an estimate that is taken in the function itself."""
    here = Here(source_info_util.current())
    error = BiasError(
        f"jscg: the result of jscg.expectation{at_line(here)} is differentiated "
        "inside of the function that jscg takes apart. Its derivative is an estimate, too, and "
        "jscg does not follow where that goes.\n"
        "What to do instead:\n"
        "  - estimate the derivative: jscg.expectation(jscg.grad_expectation(fun)), or "
        "jscg.expectation(jax.grad(fun)) where fun is differentiated through its samples\n"
        "  - wrap what it is differentiated by in jax.lax.stop_gradient, if that is not wanted"
    )
    return error.about(None, here)


def refuse(
    what: str,
    eqn: Any,
    why: str,
    *remedies: str,
    fault: Any = None,
    through: Any = None,
    keys: bool = False,
) -> BiasError:
    """Builds the error for a draw that has no unbiased estimator here.

    Args:
      what: the draw, as the user would name it.
      eqn: the equation to point at.
      why: what would be wrong with the gradient.
      *remedies: what to do instead, one phrase each.
      fault: see `Subject`; the equation itself if not given.
      through: see `Subject`.
      keys: see `Subject`.
    """
    todo = "\n".join(f"  - {remedy}" for remedy in remedies)
    error = BiasError(f"jscg: {what}{at_line(eqn)}: {why}\nWhat to do instead:\n{todo}")
    return error.about(eqn, eqn if fault is None else fault, through, keys)


def missing_extra(what: str, package: str) -> ImportError:
    """Builds the error for a package that only a report needs."""
    return ImportError(
        f"jscg: {what} needs {package}, which is not installed: pip install 'jscg[report]'"
    )
