"""What is told of draws and costs, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ._plates import say_steps
from ._source import Place


@dataclasses.dataclass(frozen=True)
class CostInfo:
    """One additive term of the result.

    Attributes:
      where: the user's file, line and function.
      text: the term as it is written there; empty where that cannot be read.
      shape: of the term, before it is summed.
      influenced_by: names of the draws that influence it.
    """

    where: str
    text: str
    shape: tuple[int, ...]
    influenced_by: tuple[str, ...]
    _place: Place | None = dataclasses.field(repr=False, compare=False)
    _variables: tuple[Any, ...] = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class DrawInfo:
    """One draw.

    Attributes:
      name: given by `jax.ad_checkpoint.checkpoint_name`, or the variable that it is assigned to,
        or the sampler and a number; by it estimators are chosen.
      family: the sampler, as `jax.random` calls it.
      shape: of its independent elements, after the lengths of the loops around it.
      where: the user's file, line and function.
      parameters: for each of its parameters, the arguments and draws that it depends on by no
        other draw.
      verdict: "scored", "pathwise" or "free" (nothing is needed for it).
      estimates: how its part of the gradient is estimated and why, each with the terms of the
        result, as indices into `Graph.cost_nodes`, for which that is done.
      baseline: with what costs are compared where they are scored; empty where none is.
      unbiased: whether its estimator is.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    where: str
    parameters: Mapping[str, tuple[str, ...]]
    verdict: str
    estimates: tuple[tuple[str, str, tuple[int, ...]], ...]
    baseline: str
    unbiased: bool

    def __str__(self) -> str:
        size = f"[{', '.join(map(str, self.shape))}]" if self.shape else ""
        biased = "" if self.unbiased else "  BIASED"
        lines = [f"{self.name}: {self.family}{size}  {self.where}{biased}"]
        given = [f"{name} of {', '.join(of)}" for name, of in self.parameters.items() if of]
        lines += [f"  {'; '.join(given)}"] if given else []
        return "\n".join([*lines, *(f"  {way}" for way in self.ways)])

    @property
    def ways(self) -> list[str]:
        """How it is estimated, for which costs, and why, in words."""
        ways = []
        for how, why, costs in self.estimates:
            many = f" in cost{'s' if len(costs) > 1 else ''} {', '.join(map(str, costs))}"
            baseline = f", {self.baseline}" if "scored" in how and self.baseline else ""
            ways.append(f"{how}{many if costs else ''}{baseline}: {why}")
        return ways


@dataclasses.dataclass(frozen=True)
class InfluenceInfo:
    """How a draw influences a cost.  Prints as, say, `x[t, i, :] -> cost 0[>= t, i]`.

    Attributes:
      draw: its name.
      cost: index into `Graph.cost_nodes`.
      axes: for each axis of the draw (see `DrawInfo.shape`) the axis of the cost along which only
        some elements are influenced, with the first and the last of them, seen from the index in
        the draw; None if all are.  Axes of the cost: the loops around it, then those of its shape.
    """

    draw: str
    cost: int
    axes: tuple[tuple[int, float, float] | None, ...]
    _cost_ndim: int = dataclasses.field(repr=False)
    _loops: int = dataclasses.field(repr=False)

    def __str__(self) -> str:
        letters = [*("tuvw"[: self._loops]), *"ijklmnopq"]
        of_draw, of_cost = [], [":"] * self._cost_ndim
        for letter, axis in zip(letters, self.axes, strict=False):
            of_draw.append(letter if axis is not None else ":")
            if axis is not None:
                said = say_steps(*axis[1:], letter).removeprefix("steps ").removeprefix("step ")
                of_cost[axis[0]] = said
        left = f"{self.draw}[{', '.join(of_draw)}]" if of_draw else self.draw
        right = f"[{', '.join(of_cost)}]" if of_cost else ""
        return f"{left} -> cost {self.cost}{right}"
