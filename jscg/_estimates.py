"""Many estimates of one gradient, in compiled chunks, and what is kept of them.

The same chunk of keys is used whatever is varied, so that what is compared is compared estimate by
estimate.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._arguments import is_key, owners_of, roles
from ._compat import open_jaxpr
from ._errors import ArgumentError
from ._trace import Options, split_key
from ._work import numbers_held, work

_AT_ONCE = 256
_NUMBERS = 2**24  # that all estimates of a chunk hold together
_ROUNDING = 1e-6
# To compile a small program takes longer than to run it; these are options of the CPU's compiler.
_SMALL = 2e10  # scalar operations of all estimates
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

Gradient = Callable[..., Any]  # args, chosen -> pytree


class Arguments:
    """The arguments of a function, whose keys differ from estimate to estimate.

    Attributes:
      values: the leaves that are arrays.
      keys: of these, the keys.
    """

    def __init__(self, args: tuple, options: Options):
        leaves, self.tree = jax.tree.flatten(args)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            raise ArgumentError(
                "jscg: variance_report runs a program many times and looks at the numbers, so that "
                "it cannot be called under jax.jit, jax.vmap or jax.grad.  What it runs is "
                "compiled in any case."
            )
        owners = owners_of(args, {})
        dynamic, _, named = roles(options, args, leaves, owners)
        self.leaves = leaves
        self.places = [place for place, traced in enumerate(dynamic) if traced]
        self.values = [leaves[place] for place in self.places]
        self.key_places = [
            p for p in self.places if (owners[p] in named if named else is_key(leaves[p]))
        ]
        if not self.key_places:
            raise ArgumentError(
                "jscg: variance_report needs a random key among the arguments of the function, to "
                "split it into one for each estimate.  For a legacy uint32 key "
                "(jax.random.PRNGKey) say which argument it is: key_argnums=1."
            )

    @property
    def keys(self) -> list[Any]:
        """The keys."""
        return [self.leaves[place] for place in self.key_places]

    def at(self, values: list[Any], keys: list[Any]) -> tuple:
        """The arguments with other arrays, and with other keys."""
        leaves = list(self.leaves)
        for place, value in [
            *zip(self.places, values, strict=True),
            *zip(self.key_places, keys, strict=True),
        ]:
            leaves[place] = value
        return jax.tree.unflatten(self.tree, leaves)


def _at_once(numbers: int) -> int:
    """How many estimates fit into memory together; at least two, which are compared."""
    return min(max(_NUMBERS // max(numbers, 1), 2), _AT_ONCE)


class Chunks:
    """Keys in chunks, for as many estimates as fit into memory at a time.

    Attributes:
      rounds: how many chunks.
      size: estimates in each of them.
    """

    def __init__(self, arguments: Arguments, num_estimates: int, one: Once):
        self.arguments = arguments
        small = num_estimates * one.work < _SMALL
        self.options = _QUICK if small and jax.default_backend() == "cpu" else None
        most = min(_at_once(one.numbers), num_estimates)
        self.rounds = -(-num_estimates // most)
        self.size = max(-(-num_estimates // self.rounds), 2)
        self._keys = [split_key(key, self.rounds) for key in arguments.keys]

    @property
    def num_estimates(self) -> int:
        """How many there are."""
        return self.rounds * self.size

    def compiled(self, gradient: Gradient, numbers: int) -> Callable[..., list[jax.Array]]:
        """Estimates, on a first axis of every leaf, as a function of the round and the choice.

        Args:
          gradient: of the arguments, and a choice.
          numbers: how many numbers one estimate holds.
        """
        at_once = _at_once(numbers)

        @functools.partial(jax.jit, compiler_options=self.options)
        def run(values, keys, chosen):
            def one(keys):
                return jax.tree.leaves(gradient(self.arguments.at(values, keys), chosen))

            every = [split_key(key, self.size) for key in keys]
            if self.size <= at_once:
                return jax.vmap(one)(every)
            return lax.map(one, every, batch_size=at_once)

        return lambda i, chosen=0: run(
            self.arguments.values, [key[i] for key in self._keys], np.int32(chosen)
        )


@dataclasses.dataclass(frozen=True)
class Once:
    """One estimate as a traced program.

    Attributes:
      work: scalar operations.
      numbers: how many it holds.
      text: equal for equal programs.
    """

    work: float
    numbers: int
    text: str


def once(arguments: Arguments, gradient: Gradient) -> Once:
    """Traces one estimate."""

    def one(values, keys):
        return jax.tree.leaves(gradient(arguments.at(values, keys), jnp.int32(0)))

    closed = jax.make_jaxpr(one)(arguments.values, arguments.keys)
    jaxpr, consts = open_jaxpr(closed)
    held = b"".join(np.asarray(c).tobytes() for c in consts if not is_key(c))
    text = hashlib.sha256(str(jaxpr).encode() + held).hexdigest()
    return Once(work(jaxpr), numbers_held(jaxpr), text)


@jax.jit
def _tally(found: list[jax.Array], centre: list[jax.Array]):
    """Sums, and of every estimate its squared distance from the centre; products of pairs."""
    off = [g.astype(c.dtype) - c for g, c in zip(found, centre, strict=True)]
    flat = [o.reshape(len(o), -1) for o in off]
    pairs = len(flat[0]) // 2
    return (
        [jnp.sum(o, 0) for o in off],
        jnp.stack([jnp.sum(o**2, 1) for o in flat]),
        jnp.stack([jnp.sum(o[:pairs] * o[pairs : 2 * pairs], 1) for o in flat]),
    )


@jax.jit
def squares_of(one: list[jax.Array], other: list[jax.Array]) -> jax.Array:
    """The squared distance of two gradients, or of all from one, for each leaf and estimate."""
    pairs = zip(one, other, strict=True)
    off = [a.astype(jnp.promote_types(a.dtype, jnp.float32)) - b for a, b in pairs]
    return jnp.stack([jnp.sum(o.reshape(len(o), -1) ** 2, 1) for o in off])


@dataclasses.dataclass(eq=False)
class Tally:
    """What is kept of the estimates of one gradient.

    Attributes:
      centre: about the mean.
      sums: of the distances from it.
      parts: of every chunk, squared distances, leaf by estimate, and products of pairs.
    """

    centre: list[jax.Array]
    sums: list[np.ndarray] = dataclasses.field(default_factory=list)
    parts: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)

    def add(self, found: list[jax.Array]) -> None:
        """Takes in a chunk."""
        sums, squares, products = _tally(found, self.centre)
        sums = [np.asarray(s, np.float64) for s in sums]
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.sums else sums
        self.parts.append((np.asarray(squares, np.float64), np.asarray(products, np.float64)))

    @functools.cached_property
    def squares(self) -> np.ndarray:
        """Of the distances from the centre, for each leaf and estimate."""
        return np.concatenate([squares for squares, _ in self.parts], 1)

    @property
    def count(self) -> int:
        """How many estimates there are."""
        return self.squares.shape[1]

    @property
    def mean(self) -> list[np.ndarray]:
        """The mean gradient."""
        centres = [np.asarray(c, np.float64) for c in self.centre]
        return [c + s / self.count for c, s in zip(centres, self.sums, strict=True)]

    @functools.cached_property
    def variances(self) -> np.ndarray:
        """Of one estimate, summed over the elements of each leaf; zero where it is rounding."""
        n = self.count
        off = np.array([np.sum((s / n) ** 2) for s in self.sums])
        variances = np.maximum(np.sum(self.squares, 1) - n * off, 0) / (n - 1)
        size = np.array([np.sum(m**2) for m in self.mean])
        return np.where(variances <= _ROUNDING**2 * size, 0, variances)

    @property
    def variance(self) -> float:
        """Of all leaves together."""
        return float(np.sum(self.variances))

    @functools.cached_property
    def squared_variances(self) -> np.ndarray:
        """The sum of the squares of all elements of the covariance matrix, for each leaf.

        The mean of the squared product of two independent estimates; never above the square of
        the sum of variances.
        """
        products = np.concatenate([products for _, products in self.parts], 1)
        return np.minimum(np.mean(products**2, 1), self.variances**2)


def centre_of(found: list[jax.Array]) -> list[jax.Array]:
    """The mean of a chunk, by which rounding errors are small from then on."""
    return [jnp.mean(g.astype(jnp.promote_types(g.dtype, jnp.float32)), 0) for g in found]


def ratio(above: float, below: float, each_above: Any, each_below: Any) -> tuple[float, float]:
    """The ratio of two variances, and its standard error by the delta method.

    Args:
      above: the one.
      below: the other.
      each_above: of every estimate, what the first is the mean of.
      each_below: of the same estimates, what the second is the mean of.
    """
    if not below:
        return (0.0, 0.0) if not above else (math.inf, math.nan)
    found = above / below
    spread = np.std(each_above - found * each_below, ddof=1) / below
    return found, float(spread) / math.sqrt(len(each_above))
