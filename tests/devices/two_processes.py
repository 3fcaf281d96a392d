"""One of two processes, each with half of a batch; run by `test_many_devices.py`.

Usage: `python two_processes.py PORT NUMBER`, with 0 and 1 for the number.
"""

import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jscg


def main(port, number):
    # Before anything asks for a device, as making an array does.
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(number))
    from one_process import compare
    from sharded import KEY, PROGRAMS

    assert len(jax.devices()) == 2 and len(jax.local_devices()) == 1
    mesh = jax.make_mesh((2,), ("batch",), (AxisType.Auto,))
    spread, everywhere = (NamedSharding(mesh, PartitionSpec(*s)) for s in (["batch"], []))
    for name in ("latents", "policy"):
        fun, params, data, options = PROGRAMS[name]
        derive = jax.jit(jscg.value_and_grad_expectation(fun, **options))
        want = derive(params, data, KEY)  # on this process's own device
        share = np.split(np.asarray(data), 2)[int(number)]
        placed = jax.make_array_from_process_local_data(spread, share)
        assert not placed.is_fully_addressable
        params = jax.device_put(jax.tree.map(np.asarray, params), everywhere)
        compare(f"{name}, two processes", derive(params, placed, KEY), want)


if __name__ == "__main__":
    main(*sys.argv[1:])
