"""What an estimator sees of one draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._primitives import replay, typed
from ._scores import Scorer

_OWN = 0x5C9_0000  # keys of one draw that nobody else folds in


class Sampled:
    """One draw of a program that is being run.

    Attributes:
      value: the sample.
      shape: of its independent elements (without the axes of one outcome).
      rule: its family: the rules of its sampler.
    """

    def __init__(self, scorer: Scorer, value: jax.Array, read: Callable[[Any], Any]):
        self._scorer, self._read, self.value = scorer, read, value
        self.shape, self.rule = scorer.node.shape, scorer.node.rule

    def log_prob(self, outcome: jax.Array) -> jax.Array:
        """Log-probs of other outcomes, under the parameters of this draw."""
        return self._scorer.log_prob(outcome, self._read)

    def support(self) -> tuple[Any, list[jax.Array]]:
        """The outcomes of one element, and the probability of each."""
        return self._scorer.support(self._read)

    def is_outcome(self) -> jax.Array:
        """Which of the outcomes the sample is: ones and zeros on a last axis."""
        outcomes, _ = self.support()
        hot = self.value[..., None] == jnp.asarray(outcomes).astype(self.value.dtype)
        return hot.astype(self._scorer.dtype)

    def again(self, tag: int) -> jax.Array:
        """An independent draw, another one for every tag."""
        eqn = self._scorer.node.eqn
        operands = [self._read(v) for v in eqn.invars[1:]]
        return replay(self._keys(tag), *operands, **eqn.params)

    def uniform(self, tag: int, *more: int) -> jax.Array:
        """Independent uniform numbers, other ones for every tag; `more` axes at the end."""
        keys = typed(self._keys(tag))
        each = (*self.shape[keys.ndim :], *more)
        draw = lambda k: jax.random.uniform(k, each, self._scorer.dtype)  # noqa: E731
        for _ in range(keys.ndim):
            draw = jax.vmap(draw)
        return jnp.asarray(draw(keys))

    def bits(self) -> jax.Array:
        """The bits of its keys, two words."""
        words = jax.random.key_data(typed(self._read(self._scorer.node.key)))
        return jnp.bitwise_xor.reduce(words.reshape(-1, 2), axis=0)

    def of_family(self, fun: Callable[..., Any], *arrays: Any) -> Any:
        """Calls `fun(*arrays, static, **operands)`, a rule of its family (see `Family`)."""
        return self._scorer.apply(fun, arrays, self._read)

    def _keys(self, tag: int) -> jax.Array:
        keys = self._read(self._scorer.node.key)
        fold = lambda k: jax.random.fold_in(k, _OWN + tag)  # noqa: E731
        for _ in range(typed(keys).ndim):
            fold = jax.vmap(fold)
        return fold(keys)
