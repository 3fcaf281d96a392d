"""What the plan asks of an estimator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import jax


class Sampled(Protocol):
    """What an estimator sees of one draw; arrays have the shape of the draw's elements.

    Attributes:
      value: the sample.
      shape: of its independent elements.
      rule: its family: the rules of its sampler.
    """

    value: jax.Array
    shape: tuple[int, ...]
    rule: Any

    def log_prob(self, outcome: jax.Array) -> jax.Array:
        """Log-probs of other outcomes, under the parameters of this draw."""
        ...

    def support(self) -> tuple[Any, list[jax.Array]]:
        """The outcomes of one element, and the probability of each."""
        ...

    def again(self, tag: int) -> jax.Array:
        """An independent draw, another one for every tag."""
        ...

    def is_outcome(self) -> jax.Array:
        """Which of the outcomes the sample is: ones and zeros on a last axis."""
        ...

    def uniform(self, tag: int, *more: int) -> jax.Array:
        """Independent uniform numbers, other ones for every tag; `more` axes at the end."""
        ...

    def of_family(self, fun: Any, *arrays: Any) -> Any:
        """Calls `fun(*arrays, static, **operands)`, a rule of its family."""
        ...


class Relaxed(NamedTuple):
    """A value of a draw between its outcomes, at which the cost has a derivative.

    Attributes:
      weights: of the outcomes, on a last axis behind those of the draw's shape.
    """

    weights: jax.Array


class Evaluations(NamedTuple):
    r"""Values of a draw at which the rest of the program is run, all with the same keys.

    With F(x) the cost-to-go of an element of the draw at the value x, the gradient gets

    .. math::
       \sum_m \nabla_\theta \log p(o_m; \theta) \sum_r a_{rm} F(v_r)

    for the values v, the outcomes o and the coefficients a.  At relaxed values the cost has a
    derivative G in the weights of the outcomes, too.  Then, with tilts t and paths q, the gradient
    is

    .. math::
       \sum_m \nabla_\theta \log p(o_m; \theta)
       \sum_r (a_{rm} F(v_r) + \langle G(v_r), t_{rm} \rangle)
       + \sum_r \langle G(v_r), \nabla_\theta q_r \rangle.

    Attributes:
      values: arrays as the draw has drawn one; None for its own sample, which costs no run; or
        `Relaxed`.
      outcomes: arrays of the same kind.
      coefficients: for every value, and for every outcome, an array of the draw's shape, or None
        for zeros.  An outcome is not looked at where its coefficients are zero.
      tilts: for every value, and for every outcome, weights of outcomes; an empty list for a value
        that is not relaxed.
      paths: for every value, differentiable weights of outcomes, or None.
    """

    values: list[jax.Array | Relaxed | None]
    outcomes: list[jax.Array]
    coefficients: Sequence[Sequence[jax.Array | None]]
    tilts: list[list[jax.Array]] | None = None
    paths: list[jax.Array | None] | None = None


def difference(
    at: jax.Array, instead_of: jax.Array | None, scores: list[tuple[jax.Array, jax.Array]]
) -> Evaluations:
    r"""Compares the cost-to-go F at two values: the common case of `Evaluations`.

    .. math::
       (F(x') - F(x)) \sum_m a_m \nabla_\theta \log p(o_m; \theta)

    Args:
      at: the value x', as the draw has drawn one.
      instead_of: the value x; None for the draw's own sample, which costs no run.
      scores: pairs of a coefficient a, an array of the draw's shape, and an outcome o.

    Returns:
      What `Estimator.compare` is to return.
    """
    weights = [c for c, _ in scores]
    opposite = [-c for c in weights]
    return Evaluations([at, instead_of], [x for _, x in scores], [weights, opposite])


@dataclasses.dataclass(frozen=True)
class Estimator:
    """Base class of the estimators.

    An estimator of a draw says for which of the costs that the draw influences it is replaced by
    its exact expectation over the draw, and with which baseline the others are scored, or at
    which other values of the draw the program is run again.  To write one, subclass this as a
    frozen dataclass and override what differs.

    Attributes:
      compares: whether the rest of the program is run again at other values of the draw.
      moves: which elements of a draw differ in such a run, of those that reach the same costs.
        `"all"` of them; `"one"` that is picked at random, with a chance in proportion to its
        largest coefficient; or `"each"` of them, in a run of its own.
      relaxes: whether a draw of few outcomes is run at weights of these.  `""`, it is not;
        `"program"`, whenever the program is run; `"runs"`, in further runs, in which the cost must
        be smooth, and draws below it of the same kind of estimator are relaxed, too; `"points"`,
        in further runs at outcomes, for the slope there.

    Example:
      >>> import dataclasses, jax, jscg
      >>> @dataclasses.dataclass(frozen=True)
      ... class Neighbour(jscg.estimators.Estimator):  # of Bernoulli draws: the other outcome
      ...     compares = True
      ...     moves = "each"
      ...
      ...     def compare(self, draw):
      ...         other = ~draw.value
      ...         p = jax.numpy.exp(draw.log_prob(other))
      ...         weight = p * (1 - p)
      ...         scores = [(weight, other), (-weight, draw.value)]
      ...         return jscg.estimators.difference(other, None, scores)
      >>> cost = lambda p, key: 3.0 * jax.random.bernoulli(key, p)
      >>> float(jscg.grad_expectation(cost, estimators=Neighbour())(0.25, jax.random.key(0)))
      3.0
    """

    compares: ClassVar[bool] = False
    moves: ClassVar[Literal["all", "one", "each"]] = "all"
    relaxes: ClassVar[Literal["", "program", "runs", "points"]] = ""

    @property
    def unbiased(self) -> bool:
        """Whether the gradient's expectation is the gradient of the expectation."""
        return True

    @property
    def allows_jumps(self) -> bool:
        """Whether a continuous draw is differentiated through where the cost jumps."""
        return False

    @property
    def continuous_law(self) -> Literal["density", "location"] | None:
        """As what a continuous draw for which it was chosen is drawn, if not differentiated."""
        return None

    @property
    def leave_one_out(self) -> bool:
        """Whether a leave-one-out baseline is used where one exists."""
        return False

    @property
    def weighs_others(self) -> bool:
        """Whether the others' costs are weighted by the squares of their scores in it."""
        return False

    @property
    def fits_baselines(self) -> bool:
        """Whether a baseline is fitted by regression over a batch, where there is one."""
        return False

    @property
    def uses_upstream(self) -> bool:
        """Whether it is fitted to costs that the draw does not influence, too."""
        return False

    @property
    def uses_mean_field(self) -> bool:
        """Whether it is fitted to the cost at the means of what is drawn, too."""
        return False

    @property
    def uses_particles(self) -> bool:
        """Whether one particle of several has the cost without it as a baseline."""
        return False

    @property
    def outcomes(self) -> int:
        """The most joint outcomes for which a cost is recomputed, or zero for never."""
        return 0

    @property
    def only_cheap(self) -> bool:
        """Whether only costs that are cheap to recompute are enumerated."""
        return True

    @property
    def scores(self) -> bool:
        """Whether costs that are not enumerated are scored; else they are an error."""
        return True

    @property
    def may_compare(self) -> bool:
        """Whether that may be done in place of scoring, if only first derivatives are wanted."""
        return False

    @property
    def budget(self) -> int:
        """How many elements have runs of their own at most, where each is moved in turn."""
        return 1024

    def compare(self, draw: Sampled) -> Evaluations:
        """Says which values of a draw are compared, and how, where `compares`."""
        raise NotImplementedError

    def relax(self, draw: Sampled) -> jax.Array:
        """The weights of the outcomes of a draw, where `relaxes`; differentiable."""
        raise NotImplementedError

    def check(self, node: Any) -> str | None:
        """Returns why this estimator cannot be used for a draw, or None where it can."""
        if not node.rule.discrete:
            return "it draws a continuous value, for which no log-probability is known here"
        return None
