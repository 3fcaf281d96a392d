"""What is to be called with the arguments of a function, and says so where it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ._arguments import argument_names
from ._traceback import hand_over

Result = TypeVar("Result")


class Awaiting(Generic[Result]):
    """A function that waits for arguments; a cell of a notebook that ends in it shows with which.

    Args:
      call: the function.  Frames of jscg are left out of the tracebacks of what it raises; all stay
        with `jax.config.update("jax_traceback_filtering", "off")`.
      what: the function of jscg that has made it.
      fun: the function that it was made of.
    """

    def __init__(self, call: Callable[..., Result], what: str, fun: Callable):
        self._call, self._what, self._fun = call, what, fun

    def __call__(self, *args, **kwargs) -> Result:
        __tracebackhide__ = True  # for IPython and pytest
        try:
            return self._call(*args, **kwargs)
        except Exception as error:
            hand_over(error)
            raise

    def __repr__(self) -> str:
        name = getattr(self._fun, "__name__", "fun")
        made = f"jscg.{self._what}({'fun' if name == '<lambda>' else name})"
        arguments = ", ".join(argument_names(self._fun).values()) or "..."
        return f"<{made}: call it with the arguments of the function, {made}({arguments})>"
