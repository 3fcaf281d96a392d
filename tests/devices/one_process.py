"""Gradients on eight simulated devices against those of one; run by `test_many_devices.py`.

Prints one line for each comparison, and fails with the first that differs.
"""

import collections
import re
import sys

import jax
import numpy as np
from jax import lax, random
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sharded import KEY, PROGRAMS, SIZE

import jscg

DEVICES = 8
EVERYWHERE, SPREAD = PartitionSpec(), PartitionSpec("batch")


def mesh_of(kind):
    return jax.make_mesh((DEVICES,), ("batch",), (kind,))


def gradient(name):
    fun, params, data, options = PROGRAMS[name]
    return jscg.value_and_grad_expectation(fun, **options), params, data


def compare(what, got, want):
    got, want = jax.tree.map(np.asarray, (got, want))
    # Only the order of sums differs.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), got, want)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(want[1])), "nothing to see"
    print("equal:", what, flush=True)


def check_named_sharding(name, kind, want):
    """Inputs are placed, and nothing else is said."""
    derive, params, data = gradient(name)
    mesh = mesh_of(kind)
    data = jax.device_put(data, NamedSharding(mesh, SPREAD))
    params = jax.device_put(params, NamedSharding(mesh, EVERYWHERE))
    compiled = jax.jit(derive).lower(params, data, KEY).compile()
    found = re.findall(r" (all-[a-z]+|collective-[a-z]+|reduce-scatter)\(", compiled.as_text())
    told = ", ".join(f"{n} {what}" for what, n in sorted(collections.Counter(found).items()))
    compare(f"{name}, {kind.name}: {told}", compiled(params, data, KEY), want)
    assert "all-reduce" in found, "the devices did not share the work"


def in_shard_map(name):
    """The gradient of each device's share, in a `shard_map`."""
    derive, params, data = gradient(name)

    def on_one_device(params, data, key):
        value, grads = derive(params, data, random.fold_in(key, lax.axis_index("batch")))
        return lax.psum(value, "batch"), grads

    spread = jax.shard_map(
        on_one_device,
        mesh=mesh_of(AxisType.Auto),
        in_specs=(EVERYWHERE, SPREAD, EVERYWHERE),
        out_specs=EVERYWHERE,
    )
    return jax.jit(spread)(params, data, KEY)


def check_shard_map(name):
    """As with `jax.grad`, gradients in what is the same on all devices are sums over them."""
    derive, params, data = gradient(name)
    share, single = SIZE // DEVICES, jax.jit(derive)
    parts = [
        single(params, data[i * share : (i + 1) * share], random.fold_in(KEY, i))
        for i in range(DEVICES)
    ]
    compare(f"{name}, shard_map", in_shard_map(name), jax.tree.map(_sum, *parts))


def _sum(*parts):
    return np.sum(np.stack(parts), 0)


def main():
    assert len(jax.devices()) == DEVICES
    for name in PROGRAMS:
        derive, params, data = gradient(name)
        want = jax.jit(derive)(params, data, KEY)
        check_named_sharding(name, AxisType.Auto, want)
        check_named_sharding(name, AxisType.Explicit, want)
    for name in ("latents", "particles", "walkers"):
        check_shard_map(name)
    # Its noise is scored there, so that samples differ; what is tried out belongs to no mesh.
    with jax.set_mesh(mesh_of(AxisType.Auto)):
        leaves = jax.tree.leaves(in_shard_map("kinks"))
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


if __name__ == "__main__":
    sys.exit(main())
