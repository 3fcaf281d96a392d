"""How much arithmetic equations take, roughly, whatever machine does it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax.extend.core as jex_core

from ._compat import open_jaxpr
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._program import Program
from .draws import FAMILIES

# In scalar operations, roughly those of a CPU, where most of them are held up by memory.
RANDOM_NUMBER = 4  # in further runs of a program, most of which share it
FIRST_NUMBER, REJECTED_NUMBER = 10, 500  # where it is drawn, directly or by a loop of trials
MULTIPLY_ADD = 1 / 16  # in a product of matrices, or a convolution
WHILE_STEPS = 10  # as the series of an implicit derivative takes, or more
_RANDOM = {"draw", "random_bits"}


def numbers_made(eqn: Any) -> int:
    """How many numbers the results of an equation are."""
    return sum(math.prod(v.aval.shape) for v in eqn.outvars)


def operations(eqn: Any) -> float:
    """Scalar operations of one equation that holds no program."""
    results = numbers_made(eqn)
    name = eqn.primitive.name
    if name in _RANDOM:
        return RANDOM_NUMBER * _random_numbers(eqn)
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        each = math.prod(eqn.invars[0].aval.shape[a] for a in contracted)
        return MULTIPLY_ADD * results * each
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return MULTIPLY_ADD * results * math.prod(kernel) / features
    read = [math.prod(v.aval.shape) for v in eqn.invars if not isinstance(v, jex_core.Literal)]
    return max([results, *read])


def of_drawing(eqn: Any) -> float:
    """Scalar operations of the first run of a draw."""
    rejects = FAMILIES[eqn.params["family"]].rejects
    return (REJECTED_NUMBER if rejects else FIRST_NUMBER) * _random_numbers(eqn)


def _random_numbers(eqn: Any) -> int:
    sizes = [math.prod(v.aval.shape) for v in eqn.invars[1:]]
    return max([numbers_made(eqn), *sizes])


def of_runs(
    program: Program, nodes: Iterable[StochasticNode], influence: InfluenceMap, moving: float
) -> dict[StochasticNode, tuple[float, int]]:
    """Of a run at another value of each draw the operations, and the largest array.

    Args:
      program: the program.
      nodes: the draws.
      influence: of the draws.
      moving: operations for each element of the draw, to give it that value.
    """
    work = {node: moving * math.prod(node.shape) for node in nodes}
    largest = {node: math.prod(node.shape) for node in nodes}
    for _, steps, eqn in _simple(program):
        changed = {n for v in eqn.outvars for n in influence[v].keys() & work.keys()}
        for node in changed:
            work[node] += steps * operations(eqn)
            largest[node] = max(largest[node], numbers_made(eqn))
    return {node: (work[node], largest[node]) for node in nodes}


def of_program(program: Program) -> tuple[float, int]:
    """The operations of a program, drawing included, and the numbers in all its arrays."""
    work, numbers = 0.0, 0
    for draws, steps, eqn in _simple(program):
        work += steps * (of_drawing(eqn) if draws else operations(eqn))
        numbers += steps * numbers_made(eqn)
    return work, numbers


def of_equations(program: Program, indices: Iterable[int]) -> float:
    """The operations of some equations of the outermost program, with all that they hold."""
    indices = list(indices)
    held = (each for i in indices for sub in program.subs.get(i, ()) for each in _simple(sub))
    own = (operations(program.eqns[i]) for i in indices if i not in program.subs)
    return sum(own) + sum(steps * operations(eqn) for _, steps, eqn in held)


def _simple(program: Program) -> Iterator[tuple[bool, int, Any]]:
    """The equations that hold no others: whether it is a draw, how often it is run, and itself."""
    for part in program.walk():
        steps = math.prod(loop.length for loop in part.loops)
        for index, eqn in enumerate(part.eqns):
            if index not in part.subs:
                yield eqn.primitive.name == "draw", steps, eqn


def work(jaxpr: Any) -> float:
    """Scalar operations of all equations of a jaxpr, every step of a `scan` counted.

    XLA's own analysis of costs counts the body of a loop once, however often it runs.  Of a
    `while` loop nobody knows that: `WHILE_STEPS` is a guess; of a `cond` the dearest branch counts.
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        inner = [open_jaxpr(sub)[0] for sub in jex_core.jaxprs_in_params(eqn.params)]
        if not inner:
            total += operations(eqn)
            continue
        each = [work(sub) for sub in inner]
        times = {"scan": eqn.params.get("length"), "while": WHILE_STEPS}.get(eqn.primitive.name, 1)
        total += max(each) if eqn.primitive.name == "cond" else times * sum(each)
    return total


def numbers_held(jaxpr: Any) -> int:
    """How many numbers the results of all equations are, those of loops as they come out."""
    return sum(map(numbers_made, jaxpr.eqns))
