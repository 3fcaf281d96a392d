"""Gradients of many samples, run in chunks, so that memory is that of one chunk.

Samples meet in one place: each is the others' baseline.  With b_k the box of a sample (value one)
and Z = sum_j (b_j - 1), over all n samples, the leave-one-out weight of a cost c_k is

    b_k + 1 - mean_{j != k} b_j  =  b_k + (b_k - 1 - Z) / (n - 1).

Z has the value zero, so that the first derivative of the surrogate L is that of

    L at Z = 0  +  (dL/dZ) Z,

a sum over chunks of samples where dL/dZ, a number for each element of each such cost, is known.
It is a sum over chunks itself.  So all chunks are run twice, with the same keys: first for dL/dZ,
which takes no derivative of the program, then for the gradient.  Where no cost has such a weight,
they are run once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._arguments import check_floats
from ._comparisons import Comparer
from ._costs import CostNode
from ._errors import ArgumentError
from ._first_order import first_order_only, witness_of
from ._frame import Frame
from ._plan import Plan
from ._rerun import has_effects
from ._rewrite import Rewriter
from ._samples import axes_of_baselines
from ._trace import Flat, Options, split_key, trace, trace_flat


def gradient_in_chunks(
    fun: Callable, options: Options, which: int | tuple[int, ...], with_value: bool
) -> Callable:
    """Does what `jax.grad` or `jax.value_and_grad` of the surrogate does, in chunks of samples.

    Args:
      fun: the function.
      options: what is wanted of it.
      which: the argument or arguments to differentiate with respect to.
      with_value: whether the value is returned as well.
    """

    def derived(*args, **kwargs):
        check_floats(fun, options.argnums, args)
        whole, _, _ = trace(fun, options, args, kwargs)
        flat = Chunk(fun, options, args, kwargs)
        plan, inputs, tree = trace_flat(flat)
        axes = axes_of_baselines(whole.plan, plan)
        totals = _totals(plan, axes, flat, inputs)
        rewriter = ChunkRewriter(plan, axes, options.num_samples)
        consts = inputs[: len(inputs) - len(flat.values)]

        def loss(*args, keys):
            values = map(jnp.asarray, flat.values_of(args, kwargs, keys))
            return jax.tree.unflatten(tree, rewriter([*consts, *values], totals))

        def add(sums, keys):
            (cost, aux), grads = jax.value_and_grad(
                lambda *args: loss(*args, keys=keys), which, has_aux=True
            )(*args)
            return jax.tree.map(jnp.add, sums, (cost, grads)), aux

        wanted = args[which] if isinstance(which, int) else tuple(args[i] for i in which)
        dtype = plan.program.outvars[0].aval.dtype
        zeros = jnp.zeros((), _wide(dtype)), jax.tree.map(_zeros, wanted)
        (value, grads), aux = lax.scan(add, zeros, flat.chunks)
        value = (value / flat.repeats).astype(dtype)
        grads = jax.tree.map(
            lambda g, x: (g / flat.repeats).astype(jnp.result_type(x)), grads, wanted
        )
        aux = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), aux)
        if with_value:
            return ((value, aux) if options.has_aux else value), grads
        return (grads, aux) if options.has_aux else grads

    return derived


class Chunk(Flat):
    """The function of one chunk of samples, whose keys are given.

    Attributes:
      chunks: for each key, those of the samples, [chunks, samples in each, ...].
    """

    def __init__(self, fun: Callable, options: Options, args: tuple, kwargs: dict):
        super().__init__(fun, options, args, kwargs)
        size = options.chunk_size or options.num_samples
        self.repeats = options.num_samples // size
        leaves = jax.tree.leaves((args, kwargs))
        split = [split_key(leaves[place], options.num_samples) for place in self.keys]
        self.chunks = [k.reshape(self.repeats, size, *k.shape[1:]) for k in split]
        self.values = self.values_of(args, kwargs, [k[0] for k in self.chunks])

    def values_of(self, args: tuple, kwargs: dict, keys: list[Any]) -> list[Any]:
        """Leaves of arguments, with the keys of one chunk."""
        leaves = jax.tree.leaves((args, kwargs))
        for place, key in zip(self.keys, keys, strict=True):
            leaves[place] = key
        return [leaves[place] for place in self.places]

    def split(self, key: Any) -> Any:
        """They are split already."""
        return key


class ChunkRewriter(Rewriter):
    """Runs the program of one chunk.

    For each cost with a baseline over samples it may be given an array, dL/dZ (see the module), or
    zeros, the derivative in which that is.
    """

    def __init__(self, plan: Plan, axes: dict[CostNode, int], num_samples: int):
        super().__init__(plan, Comparer)
        self.axes, self.num_samples = axes, num_samples
        self.adding = self.adding | axes.keys()

    def weight(self, frame: Frame, cost: CostNode, scores, shape, axis: int | None) -> Any:
        """As that of a rewriter, but with the samples of all chunks as the baseline."""
        if axis is None or cost not in self.axes:
            return super().weight(frame, cost, scores, shape, axis)
        total = frame.scope.given[cost]
        known = lax.stop_gradient(total)
        own = frame.weight(scores, shape, None)
        here = jnp.sum(own - 1.0, axis, keepdims=True)
        self.add_extra(frame, jnp.sum(known * here))
        return own + (own - 1.0 - (total - known)) / (self.num_samples - 1)


def _totals(
    plan: Plan, axes: dict[CostNode, int], flat: Chunk, inputs: list[Any]
) -> dict[CostNode, jax.Array]:
    """The derivative dL/dZ for each cost with a baseline over samples."""
    if not axes:
        return {}
    if has_effects(plan.program):
        raise ArgumentError(
            "jscg: chunk_size runs the program twice, but it has effects (an io_callback, say), "
            "which would then happen twice.\nWhat to do instead:\n"
            "  - leave chunk_size out, or the effects\n"
            "  - use jscg.estimators.ScoreFunction(baseline=None), which needs one run only"
        )
    rewriter = ChunkRewriter(plan, axes, flat.options.num_samples)
    rewriter.keeps_effects = False
    compared = {} if rewriter.comparer is None else rewriter.comparer.symbols()
    fixed, args, kwargs = inputs[: len(inputs) - len(flat.values)], *flat.arguments

    def total(symbols, keys):
        values = [jnp.asarray(x) for x in flat.values_of(args, kwargs, keys)]
        given = compared | dict(zip(axes, symbols, strict=True))
        return rewriter.surrogate([*fixed, *values], given)[0]

    zeros = [jnp.zeros(_shape(cost, axis), jnp.float32) for cost, axis in axes.items()]

    def add(sums, keys):
        return jax.tree.map(jnp.add, sums, jax.grad(total)(zeros, keys)), None

    sums, _ = lax.scan(add, zeros, flat.chunks)
    witness = witness_of(inputs)
    return {c: first_order_only(s, witness) for c, s in zip(axes, sums, strict=True)}


def _shape(cost: CostNode, axis: int) -> tuple[int, ...]:
    """Of a cost without its samples, the steps of loops first."""
    shape = list(cost.aval.shape)
    shape[axis] = 1
    return (*(loop.length for loop in cost.program.loops), *shape)


def _wide(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def _zeros(x: Any) -> jax.Array:
    return jnp.zeros(jnp.shape(x), _wide(jnp.result_type(x)))
