"""`upper_bound`: a function that touches the expectation at the old parameters from above."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._activity import active_variables
from ._api import options_of
from ._arguments import input_names
from ._calls import compiled
from ._errors import BiasError
from ._frame import Frame, Scope
from ._nodes import StochasticNode
from ._plan import Plan
from ._rewrite import Rewriter
from ._source import at_line
from ._trace import Options, trace
from ._trail import follow
from .estimators import ScoreFunction


def upper_bound(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_samples: int = 1,
    key_argnums: int | Sequence[int] | None = None,
) -> Callable[..., Callable[..., jax.Array]]:
    r"""Creates a function that bounds E[fun] from above, for majorisation-minimisation (EM).

    At samples x drawn with the old parameters θ',

    .. math::
       M(\theta) = \sum_c c \left( 1 + \sum_{w \prec c} \log p(x_w; \theta)
       - \log p(x_w; \theta') \right),

    where the inner sum is over the draws w that influence the cost c, and is the log of their
    importance weight.

    E[M] is an upper bound of E[fun] at the new parameters, because r ≥ 1 + log r and costs are
    negative, and it touches E[fun] at the old ones in value and slope (Schulman's thesis, section
    5.9, eq. 41).  A number that is added to a cost is a part of it.  Minimising M never makes
    E[fun] worse, up to the error of the samples: for a reward it is maximum likelihood, weighted
    with the reward, and for draws of an exponential family it is solved in closed form, as the
    M-step of EM is.

    Args:
      fun: see `surrogate`.  Its costs must be negative or zero (subtract a constant), which is
        not checked, and must depend on the parameters through draws only, which is.
      argnums: see `surrogate`.
      has_aux: see `surrogate`; auxiliary data is dropped.
      num_samples: see `surrogate`.
      key_argnums: see `surrogate`.

    Returns:
      A function of the arguments of `fun`, the old parameters among them, that draws samples and
      returns M, a function of new values of the arguments `argnums`, differentiable to any order.

    Raises:
      JscgError: where a cost that a draw influences depends on the parameters directly, too.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(logits, key):  # minus the reward
      ...     x = jax.random.categorical(key, logits, shape=(1000,))
      ...     return -jnp.mean(jnp.array([0.0, 1.0, 3.0])[x])
      >>> old = jnp.zeros(3)
      >>> bound = jscg.upper_bound(cost)(old, jax.random.key(0))
      >>> new = jnp.array([-1.0, 0.0, 0.5])
      >>> float(bound(new)) < float(bound(old))
      True
    """
    score = ScoreFunction(baseline=None)
    options = options_of(argnums, has_aux, num_samples, score, key_argnums)
    options = dataclasses.replace(options, purpose="bound")

    draw = compiled(fun, options, "samples", functools.partial(_samples_of, options))
    # Its arguments are the whole of those of `fun`, so that no place among them says more.
    anywhere = dataclasses.replace(options, argnums=(), key_argnums=())
    at = compiled(fun, anywhere, ("bound", options), functools.partial(_bound_at, options))

    @functools.wraps(fun)
    def at_old(*args, **kwargs):
        samples = draw(*args, **kwargs)

        def bound(*new):
            if len(new) != len(options.argnums):
                raise TypeError(
                    f"the bound takes the {len(options.argnums)} arguments of argnums, "
                    f"but got {len(new)}"
                )
            changed = list(args)
            for place, value in zip(options.argnums, new, strict=True):
                changed[place] = jax.tree.map(jnp.asarray, value)
            return at(tuple(changed), kwargs, samples)

        return bound

    return at_old


def _samples_of(options: Options, fun: Callable) -> Callable:
    def samples(*args, **kwargs) -> list[Any]:
        rewriter, inputs, _ = trace(fun, options, args, kwargs)
        plan = rewriter.plan
        try:
            _check_costs(plan)
        except BiasError as error:
            names = input_names(fun, options, args, kwargs)
            follow(error, plan.program, plan.active_inputs, names)
            raise
        found = Sampling(plan).samples(inputs)
        return [found[node] for node in _in_order(plan)]

    return samples


def _bound_at(options: Options, fun: Callable) -> Callable:
    def at(args: tuple, kwargs: dict, samples: list[Any]) -> jax.Array:
        rewriter, inputs, _ = trace(fun, options, args, kwargs)
        plan = rewriter.plan
        return Bound(plan).at(inputs, dict(zip(_in_order(plan), samples, strict=True)))

    return at


def _in_order(plan: Plan) -> list[StochasticNode]:
    return [node for node in plan.nodes if node in plan.scored]


class Sampling(Rewriter):
    """Runs a program for its samples and their log-probs."""

    differentiated = False
    weighs = False

    def __init__(self, plan: Plan):
        super().__init__(plan)
        self.weighing, self.adding, self.baselines = set(), set(), {}
        self.choosing = set(plan.scored)

    def samples(self, args: list[Any]) -> dict[StochasticNode, tuple[jax.Array, jax.Array]]:
        """By draw, the sample and its log-prob, axes of loops first."""
        frame = self.run(self.plan.program, args, {}, Scope({}, {}, {}))
        return lax.stop_gradient(frame.found)

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """Keeps both."""
        frame.found[node] = value, self.scorers[node].log_prob(value, frame.read)

    def nothing(self, node: StochasticNode) -> tuple[jax.Array, jax.Array]:
        """From a branch without that draw."""
        value = node.var.aval
        return jnp.zeros(value.shape, value.dtype), jnp.zeros(node.shape, self.scorers[node].dtype)


class Bound(Rewriter):
    """Runs a program at new parameters, with the samples of the old ones."""

    def __init__(self, plan: Plan):
        super().__init__(plan)
        self.baselines = {}

    def at(self, args: list[Any], samples: dict[StochasticNode, Any]) -> jax.Array:
        """The bound."""
        scope = Scope({}, {}, samples, lambda log_ratio: 1.0 + log_ratio)
        frame = self.run(self.plan.program, args, {}, scope)
        return self.shadow(frame, self.plan.program.outvars[0])

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """The sample, and the log of its importance weight."""
        sample, log_prob = frame.scope.given[node]
        frame.env[node.var] = sample
        self.set_log_prob(frame, node, self.scorers[node].log_prob(sample, frame.read) - log_prob)


def _check_costs(plan: Plan) -> None:
    """Refuses costs that depend on the parameters other than through draws."""
    active = active_variables(plan.program, plan.active_inputs)
    for part, costs in plan.finder.shadows.costs.items():
        for atom in active.intersection(costs):
            made = plan.finder.producers[part].get(atom)
            line = "" if made is None else at_line(part.eqns[made])
            error = BiasError(
                f"jscg: the cost{line} depends on the parameters directly, and not through draws "
                "only.  Weighted with log-ratios of probabilities it would bound nothing.\n"
                "What to do instead:\n"
                "  - take such terms out of the function and add them to the bound\n"
                "  - wrap parameters in jax.lax.stop_gradient where the cost reads them"
            )
            raise error.about(None, None if made is None else part.eqns[made])
