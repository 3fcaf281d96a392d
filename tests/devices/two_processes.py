"""One of two processes, each with half of a batch; run by `test_many_devices.py`.

Usage: `python two_processes.py PORT NUMBER`, with 0 and 1 for the number.
"""

import sys

import jax

PORT, NUMBER = sys.argv[1:]

if __name__ == "__main__":  # before anything asks for a device
    jax.distributed.initialize(f"127.0.0.1:{PORT}", num_processes=2, process_id=int(NUMBER))

import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from one_process import compare
from programs import KEY, PROGRAMS

import jscg


def main():
    assert len(jax.devices()) == 2 and len(jax.local_devices()) == 1
    mesh = jax.make_mesh((2,), ("batch",), (AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    for name in ("latents", "policy"):
        fun, params, data, options = PROGRAMS[name]
        derive = jax.jit(jscg.value_and_grad_expectation(fun, **options))
        want = derive(params, data, KEY)  # on this process's own device
        share = np.split(np.asarray(data), 2)[int(NUMBER)]
        spread = jax.make_array_from_process_local_data(
            NamedSharding(mesh, PartitionSpec("batch")), share
        )
        placed = jax.tree.map(lambda a: jax.device_put(np.asarray(a), everywhere), params)
        got = derive(placed, spread, KEY)
        assert not spread.is_fully_addressable
        compare(f"{name}, two processes", got, want)


main()
