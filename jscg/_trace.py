"""Traces a function into a program once for each structure of its arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import input_names, is_key, kind_of, owners_of, roles
from ._comparisons import Comparer
from ._errors import ArgumentError, ArgumentTypeError, JscgError
from ._frozen import HostNoise
from ._intercept import explicit_draws
from ._plan import Plan, Purpose, make_plan
from ._program import Program, build
from ._rewrite import Rewriter
from ._trail import follow
from ._warnings import warn
from .estimators import Estimator


@dataclasses.dataclass(frozen=True)
class Options:
    """What `surrogate` was asked for; hashable.

    Attributes:
      argnums: positions of the arguments that the gradient is for.
      has_aux: whether the function returns (cost, auxiliary data).
      num_samples: how many samples are averaged.
      key_argnums: positions of the key arguments; empty: all typed keys.
      estimators: one estimator, or (name, estimator) pairs, or None.
      purpose: see `make_plan`.
      chunk_size: how many samples are run at once; all if None (see `_chunks`).
    """

    argnums: tuple[int, ...]
    has_aux: bool
    num_samples: int
    key_argnums: tuple[int, ...]
    estimators: Any
    purpose: Purpose = "any order"
    chunk_size: int | None = None

    @property
    def choices(self) -> Estimator | Mapping[str, Estimator] | None:
        """The estimators as the plan takes them."""
        return dict(self.estimators) if isinstance(self.estimators, tuple) else self.estimators


Change = Callable[[Program, list[Any]], None]


def trace(
    fun: Callable, options: Options, args: tuple, kwargs: dict, change: Change | None = None
) -> tuple[Rewriter, list[jax.Array], Any]:
    """Traces a function at its arguments, plans its estimators, and makes ready to run it again.

    Args:
      fun: the function.
      options: what is wanted of it.
      args: its arguments.
      kwargs: those with names.
      change: what is done to its program, given that and the variables of its keys, before it is
        planned.

    Returns:
      The rewriter, the inputs of its program, and the tree of its output.
    """
    plan, values, tree = trace_flat(Flat(fun, options, args, kwargs), change)
    warn_if_nothing_is_drawn(plan)
    return Rewriter(plan, Comparer), values, tree


def trace_flat(flat: Flat, change: Change | None = None) -> tuple[Plan, list[jax.Array], Any]:
    """Traces and plans: the plan, the inputs of its program, and the tree of its output."""
    noise = HostNoise()
    with explicit_draws():
        closed, shapes = jax.make_jaxpr(flat, return_shape=True)(*flat.values)
    noise.warn_if_drawn(flat.fun)
    jaxpr = getattr(closed, "jaxpr", closed)
    program = build(closed)
    inputs = program.invars[len(jaxpr.constvars) :]
    if change is not None:
        change(program, [inputs[flat.places.index(i)] for i in flat.keys])
    active = [False] * len(jaxpr.constvars) + flat.active
    options = flat.options
    try:
        plan = make_plan(
            program,
            active,
            options.choices,
            options.purpose,
            flat.repeats,
            bool(options.chunk_size),
        )
    except JscgError as error:
        names = input_names(flat.fun, options, *flat.arguments)
        follow(error, program, active, names)
        raise
    values = [jnp.asarray(x) for x in [*closed.consts, *flat.values]]
    return plan, values, jax.tree.structure(shapes)


class Flat:
    """A function of those leaves of its arguments that are traced; all others are fixed.

    Attributes:
      values: these leaves.
      places: where they stand among all leaves.
      active: which of them the gradient is for.
      keys: the places of keys.
      repeats: how often it is called for one gradient.
    """

    repeats = 1

    def __init__(self, fun: Callable, options: Options, args: tuple, kwargs: dict):
        self.arguments = args, kwargs
        leaves, self.tree = jax.tree.flatten((args, kwargs))
        owners = owners_of(args, kwargs)
        dynamic, for_gradient, keys = roles(options, args, leaves, owners)
        self.fun, self.options = fun, options
        self.static = [None if d else leaf for leaf, d in zip(leaves, dynamic, strict=True)]
        self.places = [i for i, d in enumerate(dynamic) if d]
        self.values = [leaves[i] for i in self.places]
        self.active = [
            owners[i] in for_gradient and kind_of(leaves[i]) == "float" for i in self.places
        ]
        self.keys = [i for i in self.places if (owners[i] in keys if keys else is_key(leaves[i]))]
        if options.num_samples > 1 and not self.keys:
            raise ArgumentError(
                f"jscg: num_samples={options.num_samples} needs a random key among the arguments "
                "of the function, to split it into one for each sample, and there is none.\n"
                "What to do instead:\n"
                "  - make the key an argument: fun(params, key), with key = jax.random.key(0)\n"
                "  - for a legacy uint32 key (jax.random.PRNGKey) say which argument it is: "
                "key_argnums=1"
            )

    def __call__(self, *values):
        """Runs the user's function, once or for every sample, on the dynamic leaves."""
        leaves = list(self.static)
        for place, value in zip(self.places, values, strict=True):
            leaves[place] = value
        if self.options.num_samples == 1:
            return self.one(leaves)

        def sample(keys):
            for place, key in zip(self.keys, keys, strict=True):
                leaves[place] = key
            return self.one(leaves)

        cost, aux = jax.vmap(sample)([self.split(leaves[place]) for place in self.keys])
        return jnp.mean(cost, 0), aux

    def split(self, key: Any) -> Any:
        """The keys of the samples, on a leading axis."""
        return split_key(key, self.options.num_samples)

    def one(self, leaves):
        """Runs the user's function and checks its output as `jax.grad` does."""
        args, kwargs = jax.tree.unflatten(self.tree, leaves)
        try:
            out = self.fun(*args, **kwargs)
        except jax.errors.ConcretizationTypeError as error:
            error.add_note(
                "jscg: arrays are traced, as under jax.jit.  A value that decides about shapes or "
                "Python control flow must be a Python number (they stay as they are, except in "
                "argnums), or be bound by functools.partial."
            )
            raise
        except jax.errors.TracerArrayConversionError as error:
            error.add_note(
                "jscg: numpy cannot see a traced value.  Compute with jax.numpy in the place of "
                "numpy, and draw with jax.random, from the key: what numpy.random draws has no "
                "gradient."
            )
            raise
        except TypeError as error:
            if not self.keys and not self.options.key_argnums:
                error.add_note(
                    "jscg: no argument is a random key.  Functions that draw take one, and so does "
                    "what jscg makes of them: jscg.grad_expectation(fun)(params, "
                    "jax.random.key(0))."
                )
            raise
        if self.options.has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                raise ArgumentTypeError(
                    "jscg: with has_aux=True the function must return a pair (cost, aux), but it "
                    f"returned {type(out).__name__}."
                )
            cost, aux = out
        else:
            cost, aux = out, None
        check_cost(cost)
        return cost, aux


def split_key(key: Any, num: int) -> Any:
    """Splits a key, or every key of an array of keys, into `num`, on a new leading axis."""
    split = lambda k: jax.random.split(k, num)  # noqa: E731
    for _ in range(jnp.ndim(key) - (0 if is_key(key) else 1)):
        split = jax.vmap(split, out_axes=1)
    return split(key)


def check_cost(cost: Any) -> None:
    """Raises what `jax.grad` raises for an output that has no gradient."""
    if not isinstance(cost, (jax.Array, np.ndarray, np.generic, int, float, complex)):
        raise ArgumentTypeError(
            "jscg: Gradient only defined for scalar-output functions. Output was: "
            f"{type(cost).__name__}. To return other values as well, use has_aux=True."
        )
    if jnp.shape(cost) != ():
        raise ArgumentTypeError(
            "jscg: Gradient only defined for scalar-output functions. Output had shape: "
            f"{jnp.shape(cost)}. Reduce it, for example with output.mean() or output.sum()."
        )
    dtype = jnp.result_type(cost)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ArgumentTypeError(
            "jscg: grad_expectation requires real-valued outputs (output dtype that is a "
            f"sub-dtype of np.floating), but got {dtype.name}."
        )


def warn_if_nothing_is_drawn(plan: Plan) -> None:
    """Says that `jax.grad` is the tool where there is nothing random."""
    if not plan.nodes:
        warn(
            "jscg found no draw in this function, so its expectation is its value: jax.grad is "
            "the tool. (Draws are found where they are made by functions of jax.random; those of "
            "numpy.random and of Python's random are constants to a trace.)"
        )
