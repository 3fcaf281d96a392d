"""What devices say to each other by name: `shard_map` within a function, and collectives.

Sharded arrays need none of this: there XLA finds what is to be communicated.
"""

from __future__ import annotations

from typing import Any

from ._activity import BITS, active_variables, behind
from ._errors import refuse
from ._influence import InfluenceMap
from ._jumps import find_jumps
from ._program import Literal, Program, build
from ._source import at_line

COLLECTIVES = set(
    """
    all_gather all_gather_invariant all_to_all pgather pmax pmin ppermute psum psum_invariant
    ragged_all_to_all reduce_scatter
    """.split()
)


def check_shard_maps(program: Program, active: set[Any], noisy: set[Any]) -> None:
    """Refuses draws, and jumps of noise, within a `shard_map`: the rewrite does not look into it.

    Args:
      program: the program.
      active: what depends differentiably on the parameters.
      noisy: what depends on continuous noise.

    Raises:
      BiasError: where a score or a jump would be missed.
    """
    for part in program.walk():
        for eqn in part.eqns:
            if eqn.primitive.name == "shard_map":
                _check_inside(eqn, build(eqn.params["jaxpr"]), active, noisy)


def _check_inside(eqn: Any, body: Program, active: set[Any], noisy: set[Any]) -> None:
    moving, random = (
        [not isinstance(v, Literal) and v in some for v in eqn.invars] for some in (active, noisy)
    )
    for part in body.walk():
        for inner in part.eqns:
            if inner.primitive.name in {"draw", "shard_map", *BITS}:
                raise refuse(
                    "the shard_map",
                    eqn,
                    f"{inner.primitive.name!r}{at_line(inner)} stands in it, and jscg does not "
                    "look for scores and jumps there.",
                    "draw outside of the shard_map, and pass the drawn values in",
                    "leave the shard_map out: under jit, arrays that are placed with a "
                    "NamedSharding are drawn and scored where they are",
                    "call jscg.grad_expectation inside of the shard_map",
                    fault=inner,
                )
    inside = active_variables(body, moving)
    noise = behind(body, {v for v, r in zip(body.invars, random, strict=True) if r})
    for jump in find_jumps(body, moving, inside, noise):
        raise refuse(
            "the shard_map",
            eqn,
            f"noise and the parameters meet in {jump.eqn.primitive.name!r}{at_line(jump.eqn)}, "
            "which jumps: its derivative is zero wherever it exists, and within a shard_map jscg "
            "does not mend that.",
            "do this outside of the shard_map",
            fault=jump.eqn,
        )


def check_collectives(program: Program, influence: InfluenceMap) -> None:
    """Refuses collectives of what scored draws influence, in a function that runs on one device.

    The costs of all devices would be weighted with the scores of each, and what is differentiated
    without a score would be counted once for every device.

    Raises:
      BiasError: where there is one.
    """
    for part in program.walk():
        for eqn in part.eqns:
            if eqn.primitive.name not in COLLECTIVES:
                continue
            for node in {n for v in eqn.invars if not isinstance(v, Literal) for n in influence[v]}:
                raise refuse(
                    node.what,
                    node.eqn,
                    f"it influences {eqn.primitive.name!r}{at_line(eqn)}, which exchanges values "
                    "with other devices, and each device knows the scores of its own draws only.",
                    "call jscg.grad_expectation of the cost of one device, and combine values and "
                    "gradients outside of it, by jax.lax.pmean, say",
                    "leave the shard_map out: under jit, with arrays placed with a NamedSharding, "
                    "the function may combine what it likes",
                    fault=eqn,
                )
