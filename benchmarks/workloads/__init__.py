"""The programs that the suite measures, one file each, and what is written by hand for them."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import jax

Gradient = Callable[[Any, jax.Array], Any]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A sampling function, and gradients of its expectation that experts write by hand.

    Attributes:
      cost: the plain sampling function, `cost(params, key)`.
      params: where the gradient is taken.
      hand: variants of one estimator, the one that `same` asks of jscg; the fastest of a run counts.
      textbook: the estimator of the textbooks, to compare variances with, and its name.
      same: arguments for `jscg.grad_expectation` that ask for the estimator of `hand`.
      default: arguments for the gradient whose variance is compared; none means the default.
      equal: whether the gradients of `same` and `hand` are equal sample by sample.
      keys: how many gradients a variance is estimated from.
      exact: the gradient of the expectation, where there is a closed form.
      compared: the tensors of a gradient whose variances are compared: those that scores reach.
      finer: whether jscg can give finer credit than the textbook, so that variance x time must win.
      check: raises if a gradient written by hand is wrong; what else there is to compare it with.
    """

    cost: Callable[[Any, jax.Array], jax.Array]
    params: Any
    hand: Mapping[str, Gradient]
    textbook: tuple[str, Gradient]
    same: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    default: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    equal: bool = True
    keys: int = 400
    exact: Callable[[], Any] | None = None
    compared: Callable[[Any], Any] = lambda gradient: gradient
    finer: bool = True
    check: Callable[[], None] | None = None


Make = Callable[[], Workload]

WORKLOADS: dict[str, Make] = {}
TINY: dict[str, Make] = {}


def workload(name: str, tiny: Make | None = None) -> Callable[[Make], Make]:
    """Registers a function that makes a workload.

    Args:
      name: what the table calls it.
      tiny: makes the same at a size for tests; workloads that differ in size only may share one.
    """

    def register(make: Make) -> Make:
        WORKLOADS[name] = make
        TINY[name] = tiny or make
        return make

    return register


def load() -> dict[str, Make]:
    """All workloads; a file in this folder is enough to add some."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return WORKLOADS
