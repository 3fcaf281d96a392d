"""`graph`: what jscg has understood of a function, and what it does about each draw, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from ._api import Estimators, options_of
from ._arguments import input_names
from ._awaiting import Awaiting
from ._describe import describe
from ._errors import ArgumentError
from ._infos import CostInfo, DrawInfo, InfluenceInfo
from ._trace import trace
from .picture import Diagram, draw


@dataclasses.dataclass(frozen=True)
class Graph:
    """The stochastic computation graph of a function (Schulman et al. 2015, section 2).

    Prints as a table, and draws itself in a notebook.

    Attributes:
      stochastic_nodes: the draws, in program order.
      cost_nodes: the terms of the result, in program order.
      influence: which draws influence which costs, element by element.
    """

    stochastic_nodes: tuple[DrawInfo, ...]
    cost_nodes: tuple[CostInfo, ...]
    influence: tuple[InfluenceInfo, ...]
    _diagram: Diagram = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        lines = ["draws"]
        for node in self.stochastic_nodes:
            lines += [f"  {line}" for line in str(node).splitlines()]
        lines.append("costs")
        for i, cost in enumerate(self.cost_nodes):
            size = f"[{', '.join(map(str, cost.shape))}]" if cost.shape else ""
            text = f"  {_short(cost.text)}" if cost.text else ""
            lines.append(f"  {i}{size}  {cost.where}{text}")
            by = [str(one).split(" -> ") for one in self.influence if one.cost == i]
            for_steps = [f"{a} -> {b}" if "[" in a + b else a for a, b in by]
            lines.append(
                f"    influenced by {', '.join(for_steps)}" if by else "    by the arguments alone"
            )
        return "\n".join(lines)

    __repr__ = __str__

    def svg(
        self,
        theme: Literal["auto", "light", "dark"] = "auto",
        *,
        background: bool = True,
        max_nodes: int = 30,
    ) -> str:
        """The graph as a picture, in the notation of Schulman et al. (2015, figure 1).

        Inputs are names, bold for those that the gradient is for; squares are deterministic
        nodes, by the variables of the source; circles are stochastic nodes, coloured by how
        they are estimated; diamonds are costs, with the term as it is written.  A solid box
        is a loop, a dashed one a plate: what is in it has one element for each index, and
        influences nothing of another index.  Dashed arrows are from the step before.

        Args:
          theme: colours for light or dark surroundings; "auto" leaves that to the page around and
            the reader's browser, and has the light ones in older browsers and elsewhere.
          background: whether the ground is filled.
          max_nodes: above this number deterministic nodes are left out, then nodes of one line
            are drawn as one, then nodes of one function.

        Returns:
          An SVG document, which needs nothing else; write it to a file for a paper.  What each node
          is shows under the pointer where the picture is part of a page, in JupyterLab (which
          takes the output of a cell for an image) by `IPython.display.HTML(graph.svg())`.
          Notebooks that are not trusted show neither: `jupyter trust FILE`.

        Raises:
          ValueError: `theme` is none of those.
        """
        if theme not in ("auto", "light", "dark"):
            raise ArgumentError(f'jscg: theme={theme!r} is none of "auto", "light", "dark".')
        return draw(self._diagram, max_nodes, theme, background)

    def _repr_mimebundle_(self, include=None, exclude=None) -> Mapping[str, str]:
        return {"text/plain": str(self), "image/svg+xml": self.svg()}


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def graph(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
    any_order: bool = False,
) -> Callable[..., Graph]:
    """Creates a function that shows what `grad_expectation` does with `fun`, and why.

    Args:
      fun: see `surrogate`.
      argnums: see `surrogate`.
      has_aux: see `surrogate`.
      num_samples: see `surrogate`.
      estimators: see `surrogate`.
      key_argnums: see `surrogate`.
      any_order: whether to show what `surrogate` does, whose default is right in higher
        derivatives, too.

    Returns:
      A function with the arguments of `fun`, which is traced and not run, that returns a `Graph`.

    Raises:
      JscgError: where `grad_expectation` raises.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,))
      ...     return jnp.sum(2.0 * x)
      >>> found = jscg.graph(cost)(0.5, jax.random.key(0))
      >>> [(draw.family, draw.shape) for draw in found.stochastic_nodes]
      [('bernoulli', (3,))]
      >>> found.stochastic_nodes[0].estimates
      (('enumerated', '2 outcomes, and elementwise work makes the cost of it', (0,)),)
      >>> print(*found.influence)
      x[i] -> cost 0[i]
      >>> picture = found.svg()  # in a notebook the graph draws itself
    """
    options = options_of(argnums, has_aux, num_samples, estimators, key_argnums)
    if not any_order:
        options = dataclasses.replace(options, purpose="first order")

    def graph_fun(*args, **kwargs) -> Graph:
        plan = trace(fun, options, args, kwargs)[0].plan
        return Graph(*describe(plan, input_names(fun, options, args, kwargs)))

    return Awaiting(graph_fun, "graph", fun)
