"""What jscg knows about one sampler of `jax.random`, and the registry of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Static = Mapping[str, Any]
Axes = tuple[int | None, ...]


def right_aligned(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
    """Operand axes of a sampler that broadcasts its operands to the shape of the draw."""
    return tuple(range(out_ndim - operand_ndim, out_ndim))


def unaligned(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
    """Operand axes of an operand whose every entry feeds the whole draw."""
    return (None,) * operand_ndim


def event_aligned(event_ndim: int, **operand_events: int) -> Callable[..., Axes]:
    """Makes the `operand_axes` of a sampler with joint outcomes.

    Args:
        event_ndim: trailing axes of the draw that are one outcome.
        **operand_events: for each operand, how many of its trailing axes are one parameter.
    """

    def operand_axes(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
        events = operand_events[name]
        batch = right_aligned(name, operand_ndim - events, out_ndim - event_ndim, static)
        return batch + (None,) * events

    return operand_axes


def handed_in(key: jax.Array, static: Static, **operands: jax.Array) -> jax.Array:
    """The `replay` of draws that the program makes itself: the value stands in place of the key."""
    return lax.stop_gradient(key)


def passed_on(key: jax.Array, static: Static, **operands: jax.Array) -> jax.Array:
    """As `handed_in`, with the derivative that the program has computed for the value."""
    return key


def compared_with_neighbour(
    x: jax.Array, other: jax.Array, weight: jax.Array
) -> tuple[list, list, list]:
    """The evaluations of w (c(x') - c(x)) (d log p(x') - d log p(x)); see `Family.neighbour`."""
    return [other, None], [other, x], [[weight, -weight], [-weight, weight]]


def unenumerable(static: Static, **shapes: tuple[int, ...]) -> int | None:
    """The `support_size` of a family without `support`: None."""
    return None


def each(probs: Sequence[jax.Array] | jax.Array) -> list[jax.Array]:
    """The probabilities of a `support`, one by one."""
    if not isinstance(probs, jax.Array):
        return list(probs)
    # Split, because the derivative of that is one array.
    parts = lax.split(probs, (1,) * probs.shape[-1], probs.ndim - 1)
    return [jnp.squeeze(part, -1) for part in parts]


@dataclasses.dataclass(frozen=True, eq=False)
class Family:
    """One sampler of `jax.random`. Families compare and hash by identity.

    In every callable, `static` holds the arguments that are not operands, as the caller gave
    them, under the names of the sampler's signature (a missing name has the sampler's default),
    and operands are keyword arguments, named as in `operands` or as in the values of `forms`.

    Attributes:
        name: the name of the function in `jax.random`.
        operands: its array arguments in the order of its signature, without the key.
        discrete: True if the drawn value has no derivative with respect to the operands.
        implicit: True if that derivative is an implicit one, which takes work of its own; then
            `variance_report` tries to score the draw instead.
        rejects: True if it is drawn by a loop of trials, which takes long.
        log_prob: `log_prob(x, static, **operands)`, an array of the batch shape of the draw `x`,
            float64 if a scored operand is float64, else float32. None: cannot be scored.
        scored: the operands that `log_prob` can be differentiated in.
        forms: `{("p", "logistic"): "logits"}` says that where `p` is known to be `logistic(z)`,
            `log_prob` and `support` take `logits=z` in place of `p`.
        support: `support(static, **operands)` gives `(values, probs)`: the K possible values of
            one outcome, a NumPy array, and the probability of each: K arrays of the batch shape,
            or one with K as its last axis (see `each`). None: too many.
        event_ndim: trailing axes of the draw that are one joint outcome; `event_ndim` among
            `static` goes before it.
        operand_axes: `operand_axes(name, operand_ndim, out_ndim, static)`, for each axis of the
            operand the axis of the draw that it is aligned with (where the operand has size 1,
            it is broadcast), or None if every entry along it feeds the whole outcome.
        replay: `replay(key, static, **operands)`, the value of the sampler with a corrected
            derivative. None: the sampler's own derivative is right. `handed_in` and `passed_on`:
            see `observed`.
        support_size: `support_size(static, **shapes)`, K from the shapes of the operands, or
            None where `support` cannot be used.
        continuous: `continuous(static, dtype)`, whether the value, of that dtype, has no outcome
            of its own probability, so that it jumps where it is compared with a parameter.  By
            default, if the draw is not discrete.
        elsewhere: `elsewhere(static)`, whether `log_prob` is right at other values than the one
            that was drawn.  By default, it is.
        neighbour: `neighbour(u, x, static, **operands)`, from uniform numbers u and a sample x
            another outcome and the weight w of `estimators.Coupled`, for which
            E[w (c(x') - c(x)) (d log p(x') - d log p(x))] = d E[c(x)] whatever c is.
        weak_derivative: `weak_derivative(u, x, static, **operands)`, from a pair u of uniform
            numbers and a sample x the derivative of the law as a difference of two laws, coupled:
            values, outcomes and coefficients as in `estimators.Evaluations`.
    """

    name: str
    operands: tuple[str, ...]
    discrete: bool
    implicit: bool = False
    rejects: bool = False
    log_prob: Callable | None = None
    scored: tuple[str, ...] = ()
    forms: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    support: Callable | None = None
    event_ndim: int = 0
    operand_axes: Callable[..., Axes] = right_aligned
    replay: Callable | None = None
    support_size: Callable[..., int | None] = unenumerable
    continuous: Callable[[Static, Any], bool] | None = None
    elsewhere: Callable[[Static], bool] | None = None
    neighbour: Callable | None = None
    weak_derivative: Callable | None = None

    @property
    def observed(self) -> bool:
        """True if the value is computed by the program and handed in as the key, of its shape."""
        return self.replay in (handed_in, passed_on)

    def is_continuous(self, static: Static, dtype: Any) -> bool:
        """Whether values of that dtype are spread continuously, or finely, as random bits are."""
        return not self.discrete if self.continuous is None else self.continuous(static, dtype)

    @property
    def reparameterized(self) -> bool:
        """True if the drawn value has a derivative with respect to the operands."""
        return not self.discrete


FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Adds a family to `FAMILIES` under its name, and returns it.

    Raises:
        ValueError: the name is taken.
    """
    if family.name in FAMILIES:
        raise ValueError(f"a family named {family.name!r} is already registered")
    FAMILIES[family.name] = family
    return family
