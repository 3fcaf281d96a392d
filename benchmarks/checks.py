"""Whether the gradients that are written by hand are right, and equal to those of jscg."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from benchmarks import harness
from benchmarks.suite import LARGEST_DIFFERENCE, LARGEST_Z, gradient_of
from benchmarks.workloads import Gradient, Workload


def equal_ones(workload: Workload) -> dict[str, Gradient]:
    """The gradients that are equal at the same key."""
    same = {"jscg": gradient_of(workload, workload.same)} if workload.equal else {}
    return {**workload.hand, **same}


def unbiased_ones(workload: Workload) -> dict[str, Gradient]:
    """All gradients there are."""
    return {
        **workload.hand,
        "jscg": gradient_of(workload, workload.same),
        "textbook": workload.textbook[1],
        "jscg by default": gradient_of(workload, workload.default),
    }


def take(
    workload: Workload, gradients: dict[str, Gradient], keys: int, **compiler_options: Any
) -> dict[str, Any]:
    """Every gradient at so many keys, with a leading axis for these; compiled as one program."""

    def at(key: jax.Array) -> dict[str, Any]:
        return {name: gradient(workload.params, key) for name, gradient in gradients.items()}

    each = jax.random.split(jax.random.key(3), keys)
    return jax.jit(jax.vmap(at), compiler_options=compiler_options)(each)


def differences(workload: Workload, found: dict[str, Any]) -> dict[str, float]:
    """How far each variant by hand, and jscg, is from the first variant."""
    first, *others = equal_ones(workload)
    return {name: harness.max_difference(found[name], found[first]) for name in others}


def distances(workload: Workload, found: dict[str, Any]) -> dict[str, float]:
    """How far the mean of each gradient is from the exact one, in standard errors."""
    if workload.exact is None:
        return {}
    exact = workload.exact()
    along = jax.vmap(harness.components, (0, None))
    directions = harness.directions(exact)
    return {
        name: harness.standard_errors(np.asarray(along(each, directions), np.float64), exact)
        for name, each in found.items()
    }


def check(name: str, workload: Workload, tiny: Workload, keys: int = 20_000) -> list[str]:
    """Prints all differences and distances; what is too large is returned."""
    once = take(workload, equal_ones(workload), 1)
    found = take(tiny, unbiased_ones(tiny), keys)
    results = [
        (f"{name}: differences", differences(workload, once), LARGEST_DIFFERENCE),
        (f"{name}, tiny: differences", differences(tiny, found), LARGEST_DIFFERENCE),
        (f"{name}, tiny: z", distances(tiny, found), LARGEST_Z),
    ]
    for what, values, _ in results:
        print(what, {variant: f"{value:.1g}" for variant, value in values.items()}, flush=True)
    if workload.check is not None:
        workload.check()
    return [
        f"{what} of {variant}: {value:.1g}"
        for what, values, most in results
        for variant, value in values.items()
        if value > most
    ]
