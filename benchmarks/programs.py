"""What a traced or a compiled program is made of: equations, operations, bytes."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax


def memory_bytes(function: Callable[..., Any], *args: Any) -> int:
    """Temporary plus output bytes of the compiled program: what one call adds to its arguments."""
    analysis = jax.jit(function).lower(*args).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)


def hlo_profile(function: Callable[..., Any], *args: Any) -> dict[str, int]:
    """How often the costly kinds of operation stand in the optimized program, and its bytes."""
    compiled = jax.jit(function).lower(*args).compile()
    kinds = re.findall(
        r"^\s*(?:ROOT )?%?\S+ = .*?[\])}] ([a-z][a-z0-9-]*)\(", compiled.as_text(), re.M
    )
    shown = [
        *("fusion", "dot", "custom-call", "while", "conditional", "sort", "scatter", "gather"),
        *("reduce", "exponential", "log", "log-plus-one", "logistic", "tanh", "transpose"),
        *("copy", "concatenate", "dynamic-update-slice", "call"),
    ]
    counts = collections.Counter(kinds)
    analysis = compiled.memory_analysis()
    result = {kind: counts[kind] for kind in shown if counts[kind]}
    result["all"] = len(kinds)
    result["temp bytes"] = analysis.temp_size_in_bytes
    result["output bytes"] = analysis.output_size_in_bytes
    return result


# Operations of HLO that leave the device, or wait for the host.
HOST = r"\b(infeed|outfeed|send|recv|send-done|recv-done|async-start)\("
TARGETS = r'custom_call_target="([^"]*)"'


def host_operations(compiled_text: str) -> list[str]:
    """What in a compiled program talks to the host.

    Kernels of the backend are called by name as well; those of callbacks say so.
    """
    kernels = [t for t in re.findall(TARGETS, compiled_text) if re.search("callback|host", t, re.I)]
    return (
        re.findall(HOST, compiled_text)
        + kernels
        + re.findall("is_host_transfer=true", compiled_text)
    )


def _nested(equation: Any) -> Iterator[Any]:
    """The jaxprs that stand in an equation."""
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner


def count_equations(jaxpr: Any) -> int:
    """The equations of a jaxpr, those of nested jaxprs counted at every place they stand."""
    equations = getattr(jaxpr, "jaxpr", jaxpr).eqns
    return sum(1 + sum(map(count_equations, _nested(equation))) for equation in equations)


def product_operations(jaxpr: Any) -> int:
    """Multiplications and additions in products of matrices, those of a scan at every step."""
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += repeats * sum(map(product_operations, _nested(equation)))
    return total
