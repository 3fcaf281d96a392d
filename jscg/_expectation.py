"""Expectations inside of a function whose expectation is differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ._api import count_of_samples, positions
from ._arguments import is_key, owners_of
from ._errors import ArgumentError, ArgumentTypeError
from ._primitives import expectation_p, typed
from ._trace import split_key


def expectation(
    fun: Callable[..., Any],
    num_samples: int = 1,
    *,
    key_argnums: int | Sequence[int] | None = None,
) -> Callable[..., Any]:
    """Creates a function that estimates E[fun], for use inside of other sampling functions.

    The estimate is a mean of samples.  A function g of it has another mean than g(E[fun]), unless g
    is linear.  So jscg makes sure that the cost is linear in the estimate, with factors that the
    draws behind it do not influence, and refuses the rest.  A product of expectations is a product
    of estimates that were made with different keys, `k1, k2 = jax.random.split(key)`; twice the
    same one is refused.  (Independent samples for a product of expectations: the "double sampling"
    of Baird 1995.)

    The expectation is over what is drawn with the keys among the arguments; all else, draws
    outside of `fun` too, is held fixed in it.

    Args:
      fun: a pure function of one or more keys, and whatever else, that draws with `jax.random` and
        returns a float array, or a pytree of float arrays, of any shapes.
      num_samples: how many samples to average, with keys that are split from those given; with one,
        `fun` gets the keys as they are.
      key_argnums: which positional arguments are the keys; all typed keys if not given.

    Returns:
      A function with the arguments of `fun` that returns the mean of what `fun` returns, with
      the same shapes.  Outside of jscg it is that mean and nothing else.

    Raises:
      JscgError: at once, or when the function is called, where an argument makes no sense; when
        a cost made of it is differentiated by jscg, where that is not linear in it.

    Example:
      >>> import jax, jscg
      >>> mean = jscg.expectation(lambda p, key: 3.0 * jax.random.bernoulli(key, p))
      >>> def squared(p, key):  # (3 p)^2
      ...     k1, k2 = jax.random.split(key)
      ...     return mean(p, k1) * mean(p, k2)
      >>> keys = jax.random.split(jax.random.key(0), 10_000)
      >>> g = jax.vmap(jscg.grad_expectation(squared), (None, 0))(0.5, keys)
      >>> bool(abs(g.mean() - 18 * 0.5) < 0.5)
      True
    """
    num_samples = count_of_samples(num_samples)
    chosen = () if key_argnums is None else positions(key_argnums)

    @functools.wraps(fun)
    def mean_fun(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        wanted = {i % len(args) for i in chosen if -len(args) <= i < len(args)}
        owners = owners_of(args, kwargs)
        places = [
            place
            for place, leaf in enumerate(leaves)
            if (owners[place] in wanted if wanted else is_key(leaf))
        ]
        if not places:
            raise ArgumentError(
                "jscg: jscg.expectation needs a random key among the arguments of the function: "
                "the expectation is over what is drawn with it.\n"
                "What to do instead:\n"
                "  - make the key an argument: fun(params, key), with key = jax.random.key(0)\n"
                "  - for a legacy uint32 key (jax.random.PRNGKey) say which argument it is: "
                "key_argnums=1"
            )
        keys = [leaves[place] for place in places]

        def sample(keys: list[Any]) -> Any:
            for place, key in zip(places, keys, strict=True):
                leaves[place] = key
            args, kwargs = jax.tree.unflatten(tree, leaves)
            return jax.tree.map(_float, fun(*args, **kwargs))

        if num_samples == 1:
            out = sample(keys)
        else:
            samples = jax.vmap(sample)([split_key(key, num_samples) for key in keys])
            out = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), samples)
        drawn_with = [typed(key) for key in keys]
        return jax.tree.map(lambda leaf: expectation_p.bind(leaf, *drawn_with), out)

    return mean_fun


def _float(leaf: Any) -> jax.Array:
    """What an expectation of is taken, as an array."""
    array = jnp.asarray(leaf)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ArgumentTypeError(
            "jscg: jscg.expectation averages floats, but the function returned "
            f"{array.dtype.name}. Convert it, for example by x.astype(float)."
        )
    return array
