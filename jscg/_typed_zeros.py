"""Zeros of the type of another array: its sharding and, in a `shard_map`, its manual axes.

A plain `jnp.zeros` is the same on all devices.  Within a `shard_map` a derivative in it would be
summed over them, and as a carry of a loop it would not match what the loop adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec


def zeros(
    aval: Any, shape: Sequence[int] | None = None, dtype: Any = None, axes: Sequence[int] = ()
) -> jax.Array:
    """Zeros that are sharded, and vary, as an array does.

    Args:
      aval: the abstract value of that array.
      shape: another shape, if it is to have one.
      dtype: another dtype, if it is to have one.
      axes: with `shape`, for each of its axes the axis of that array whose sharding it has; one
        that is negative has none.
    """
    axes = range(aval.ndim) if shape is None else axes
    out = jnp.zeros(aval.shape if shape is None else shape, aval.dtype if dtype is None else dtype)
    spec = spec_of(aval)
    spec = [spec[a] if a >= 0 else None for a in axes]
    if any(spec):
        out = jax.reshard(out, PartitionSpec(*spec))
    varying = varying_axes(aval)
    return lax.pcast(out, varying, to="varying") if varying else out


def spec_of(aval: Any) -> tuple[Any, ...]:
    """For each axis of an array the explicit mesh axes that it is sharded over, or None."""
    sharding = getattr(aval, "sharding", None)
    known = tuple(sharding.spec) if sharding is not None else ()
    return known + (None,) * (len(aval.shape) - len(known))


def varying_axes(aval: Any) -> tuple[str, ...]:
    """The axes of a `shard_map` along which an array differs from device to device."""
    kind = getattr(aval, "manual_axis_type", None)
    return tuple(sorted(kind.varying)) if kind is not None else ()
