"""`check_unbiased`: a certificate that the gradient of a function is estimated without bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._api import Estimators, count_of_samples, grad_expectation, options_of
from ._arguments import is_key
from ._awaiting import Awaiting
from ._enumerator import exact_expectation
from ._errors import ArgumentError, BiasError
from ._trace import split_key, trace

_MOST_OUTCOMES = 2**14
_AT_ONCE = 256
_ROUNDING = 1e-5
# In the first errors of one sign add up, and the second has no such preference.
_DIRECTIONS = (", sum of elements", ", sum with random signs")


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What `check_unbiased` found; pytrees with a leaf for each of the arguments' leaves.

    Attributes:
      estimate: the mean gradient, or, against differences, its components along two directions for
        each leaf: the sum of its elements, and their sum with random signs.  For a leaf of one
        element it is that alone.
      reference: what it should be.
      z: the difference in standard errors, elementwise.
      method: how the reference was found: "enumeration" of all outcomes, or "differences" of
        costs at displaced arguments with the same keys.
      num_estimates: how many gradients were averaged.
    """

    estimate: Any
    reference: Any
    z: Any
    method: Literal["enumeration", "differences"]
    num_estimates: int

    @property
    def worst(self) -> float:
        """The largest z, in absolute value; NaN if there is one."""
        leaves = [np.abs(np.ravel(z)) for z in jax.tree.leaves(self.z)]
        return float(np.max(np.concatenate(leaves), initial=0.0))

    def __bool__(self) -> bool:
        """Whether all z are within 4.5 standard errors."""
        return self.worst < 4.5

    def __str__(self) -> str:
        verdict = "unbiased" if self else "BIASED"
        lines = [
            f"{verdict}: worst z = {self.worst:.2f} in {self.num_estimates} estimates, against "
            f"{self.method}"
        ]
        paths = jax.tree_util.tree_leaves_with_path(self.z)
        estimates, references = map(jax.tree.leaves, (self.estimate, self.reference))
        for (path, z), estimate, reference in zip(paths, estimates, references, strict=True):
            name = jax.tree_util.keystr(path) or "gradient"
            if self.method == "differences":
                named = _DIRECTIONS if len(z) > 1 else [""]
                shown = [((i,), along) for i, along in enumerate(named)]
            else:
                at = np.unravel_index(np.argmax(np.abs(z)), np.shape(z))
                shown = [(at, f"[{', '.join(map(str, at))}], its worst element" if at else "")]
            lines += [
                f"  {name}{which}: {estimate[at]:.6g}, should be {reference[at]:.6g} "
                f"(z = {z[at]:.2f})"
                for at, which in shown
            ]
        return "\n".join(lines)

    __repr__ = __str__


def check_unbiased(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    num_estimates: int = 4096,
    num_samples: int = 1,
    estimators: Estimators = None,
    key_argnums: int | Sequence[int] | None = None,
    step: float = 0.05,
) -> Callable[..., Certificate]:
    """Creates a function that compares the mean of many gradients with what it should be.

    The reference is exact where all draws have small finite supports: the sum over all joint
    outcomes, each weighted with its probability.  Otherwise the expectation is differentiated by
    central differences along two directions for each leaf, both sides with the same keys (common
    random numbers), at two step sizes, so that the error is of fourth order in the step.
    Differences see through `jax.lax.stop_gradient`; enumeration respects it, as gradients do.

    Args:
      fun: see `surrogate`.
      argnums: see `surrogate`.
      has_aux: see `surrogate`.
      num_estimates: how many gradients, with independent keys, are averaged.
      num_samples: see `surrogate`.
      estimators: see `surrogate`.
      key_argnums: see `surrogate`; needed for legacy uint32 keys.
      step: of the differences, relative to the size of the leaf (or to one, if that is larger).

    Returns:
      A function with the arguments of `fun` that returns a `Certificate`, which is true if no z is
      beyond 4.5.

    Raises:
      JscgError: where `grad_expectation` raises, or no argument is a key.

    Example:
      >>> import jax, jax.numpy as jnp, jscg
      >>> def cost(p, key):
      ...     x = jax.random.bernoulli(key, p, (3,))
      ...     return jnp.prod(1.0 + x)
      >>> certificate = jscg.check_unbiased(cost)(0.25, jax.random.key(0))
      >>> certificate.method, bool(certificate), float(certificate.reference)
      ('enumeration', True, 4.6875)
    """
    options = options_of(argnums, has_aux, 1, estimators, key_argnums)
    num_estimates = count_of_samples(num_estimates, "num_estimates")
    gradient = grad_expectation(
        fun,
        argnums,
        has_aux,
        num_samples=num_samples,
        estimators=estimators,
        key_argnums=key_argnums,
    )

    def check(*args) -> Certificate:
        places = [i for i in range(len(args)) if i in options.key_argnums or is_key(args[i])]
        if not places:
            raise ArgumentError(
                "jscg: check_unbiased needs a random key among the arguments of the function, to "
                "split it into one for each estimate.  For a legacy uint32 key "
                "(jax.random.PRNGKey) say which argument it is: key_argnums=1."
            )
        known, tree = jax.tree.flatten(_chosen(args, argnums))
        known = [jnp.asarray(x) for x in known]

        def at(leaves: list[jax.Array], keys: list[jax.Array] | None = None) -> list[Any]:
            """The arguments, with other values of those in `argnums`, and with other keys."""
            changed = list(args)
            for i, value in zip(options.argnums, jax.tree.unflatten(tree, leaves), strict=True):
                changed[i] = value
            for i, key in zip(places, keys or [], strict=False):
                changed[i] = key
            return changed

        def cost(leaves: list[jax.Array], keys: list[jax.Array]) -> jax.Array:
            out = fun(*at(leaves, keys))
            return out[0] if has_aux else out

        def estimate(keys: list[jax.Array]) -> list[jax.Array]:
            out = gradient(*at(known, keys))
            return jax.tree.leaves(out[0] if has_aux else out)

        exact = _exact_gradient(fun, options, at, known)
        if exact is not None:
            method, pair = "enumeration", lambda keys: (estimate(keys), exact)
        else:
            method, pair = "differences", _along_directions(cost, estimate, known, step)
        batch = min(_AT_ONCE, num_estimates)
        rounds = -(-num_estimates // batch)
        keys = [split_key(args[i], rounds * batch) for i in places]
        found = _compare(pair, keys, rounds, batch)
        trees = [jax.tree.unflatten(tree, leaves) for leaves in zip(*found, strict=True)]
        if not isinstance(argnums, Sequence):
            trees = [only for (only,) in trees]
        estimates, references, z = trees
        return Certificate(estimates, references, z, method, rounds * batch)

    return Awaiting(check, "check_unbiased", fun)


def _chosen(args: tuple, argnums: int | Sequence[int]) -> tuple:
    return tuple(args[i] for i in (argnums if isinstance(argnums, Sequence) else (argnums,)))


def _exact_gradient(fun: Callable, options: Any, at: Callable, known: list[jax.Array]):
    """By enumeration; None where that is not possible."""

    def expectation(leaves):
        rewriter, inputs, _ = trace(fun, options, tuple(at(leaves)), {})
        exact = exact_expectation(rewriter.plan, _MOST_OUTCOMES)
        if exact is None:
            raise BiasError
        return exact(inputs)

    try:
        return jax.jit(jax.grad(expectation))(known)
    except BiasError:
        return None


def _along_directions(cost: Callable, estimate: Callable, known: list, step: float) -> Callable:
    """Makes a function of keys: estimates along two directions for each leaf, and differences."""
    rng = np.random.default_rng(0)
    directions = [_directions(rng, x.shape) for x in known]
    sizes = [max(1.0, float(jnp.sqrt(jnp.mean(x**2)))) for x in known]

    def slopes(i: int, keys: list[jax.Array]) -> jax.Array:
        def difference(direction: jax.Array, h: float) -> jax.Array:
            def at(by: float) -> jax.Array:
                there = known[i] + (by * direction).astype(known[i].dtype)
                return cost([*known[:i], there, *known[i + 1 :]], keys)

            return (at(h) - at(-h)) / (2 * h)

        def slope(direction: jax.Array) -> jax.Array:
            h = step * sizes[i]
            return (4 * difference(direction, h / 2) - difference(direction, h)) / 3

        return jax.vmap(slope)(jnp.asarray(directions[i]))

    def pair(keys: list[jax.Array]):
        along = [
            jnp.tensordot(d.astype(g.dtype), g, g.ndim, precision="highest")
            for d, g in zip(directions, estimate(keys), strict=True)
        ]
        return along, [slopes(i, keys) for i in range(len(known))]

    return pair


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The directions along which a leaf is checked, on a first axis."""
    ones, signs = np.ones(shape), rng.choice([-1.0, 1.0], shape)
    if ones.size <= 1:
        return ones[None]
    if abs(signs.sum()) == signs.size:  # all alike: it would be the sum once more
        signs.flat[0] *= -1
    return np.stack([ones, signs])


def _compare(pair: Callable, keys: list[jax.Array], rounds: int, batch: int):
    """Estimate, reference and z for every leaf, one batch after the other."""
    split = [k.reshape(rounds, batch, *k.shape[1:]) for k in keys]

    def sums_of(keys):
        estimates, references = jax.vmap(pair)(keys)
        return [
            (e.sum(0), r.sum(0), (e - r).sum(0), ((e - r) ** 2).sum(0))
            for e, r in zip(estimates, references, strict=True)
        ]

    def add(total, keys):
        return jax.tree.map(jnp.add, total, sums_of(keys)), None

    zero = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype),
        jax.eval_shape(sums_of, [k[0] for k in split]),
    )
    totals, _ = jax.jit(lambda keys: lax.scan(add, zero, keys))(split)
    n = rounds * batch
    return [_z(n, *map(np.asarray, each)) for each in totals]


def _z(n: int, estimate, reference, off, squares) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    estimate, reference, off = estimate / n, reference / n, off / n
    error = np.sqrt(np.maximum(squares / n - off**2, 0) / n)
    # Without variance they have to agree to rounding.
    return estimate, reference, off / np.maximum(error, _ROUNDING * (1 + np.abs(reference)))
