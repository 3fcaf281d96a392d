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


WORKLOADS: dict[str, Callable[[], Workload]] = {}


def workload(name: str) -> Callable[[Callable[[], Workload]], Callable[[], Workload]]:
    """Registers a function that makes a workload."""

    def register(make: Callable[[], Workload]) -> Callable[[], Workload]:
        WORKLOADS[name] = make
        return make

    return register


def load() -> dict[str, Callable[[], Workload]]:
    """All workloads; a file in this folder is enough to add some."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return WORKLOADS
