"""What the type of an array says of devices: its sharding and, in a `shard_map`, its manual axes.

With explicit mesh axes the sharding is part of a type, and operands of some operations must agree
in it.  In a `shard_map` a type says along which axes an array varies from device to device: a
derivative in what does not is summed over the devices.  So constants that we put in the place of
an array of the program must have its type.  Where there is one device, or XLA chooses the sharding
(automatic axes), all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def like(array: jax.Array, aval: Any, axes: Sequence[int] | None = None) -> jax.Array:
    """The array, sharded as another one is, and varying along the same manual axes.

    Args:
      array: the array.
      aval: the abstract value of the other.
      axes: for each axis of the array the axis of the other whose sharding it has, none where
        that is negative; by default the same axes.
    """
    spec = spec_of(aval)
    spec = spec if axes is None else tuple(spec[a] if a >= 0 else None for a in axes)
    if any(spec) and spec != spec_of(jax.typeof(array)):
        array = jax.reshard(array, NamedSharding(aval.sharding.mesh, PartitionSpec(*spec)))
    varying = _varying(aval) - _varying(jax.typeof(array))
    return lax.pcast(array, tuple(sorted(varying)), to="varying") if varying else array


def zeros(aval: Any) -> jax.Array:
    """Zeros of some type."""
    return like(jnp.zeros(aval.shape, aval.dtype), aval)


def spec_of(aval: Any) -> tuple[Any, ...]:
    """For each axis of an array the explicit mesh axes that it is sharded over, or None."""
    sharding = getattr(aval, "sharding", None)
    known = tuple(sharding.spec) if sharding is not None else ()
    return known + (None,) * (len(aval.shape) - len(known))


def _varying(aval: Any) -> frozenset[str]:
    kind = getattr(aval, "manual_axis_type", None)
    return frozenset(kind.varying) if kind is not None else frozenset()


def left_to_xla(fun: Callable[..., jax.Array], *args: jax.Array) -> jax.Array:
    """Runs a function in which XLA shards as it likes; the result is sharded as the first operand.

    For what merges axes of an array, of which one may be sharded.
    """
    sharding = jax.typeof(args[0]).sharding
    axes = {name for spec in spec_of(jax.typeof(args[0])) if spec for name in _names(spec)}
    if not axes:
        return fun(*args)
    kinds = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
    axes = tuple(name for name, kind in kinds.items() if kind == AxisType.Explicit)
    automatic: Any = jax.sharding.auto_axes(fun, axes=axes, out_sharding=sharding)
    return automatic(*args)


def _names(spec: Any) -> tuple[str, ...]:
    return spec if isinstance(spec, tuple) else (spec,)
