"""Many devices: simulated ones, and two processes.  Each check runs in processes of its own."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax import lax, random
from jax.sharding import PartitionSpec

import jscg

HERE = pathlib.Path(__file__).parent
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def start(script, *args, devices):
    """Starts a script of `tests/devices` with so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', FLAGS)} --xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, str(HERE / "devices" / script), *map(str, args)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes, timeout):
    """Their outputs; all must end well, and none is left."""
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, "\n".join(outputs)
        assert "equal:" in output, output
    return outputs


@pytest.mark.slow
def test_sharded_gradients_are_those_of_one_device():
    (output,) = finish([start("one_process.py", devices=8)], timeout=600)
    assert output.count("equal:") == 19


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start("two_processes.py", port, number, devices=1) for number in range(2)]
    finish(both, timeout=300)


# Refused, on one device as on many.

WHOLE, KEY = PartitionSpec(), random.key(0)


def mapped(fun, *args):
    mesh = jax.make_mesh((1,), ("batch",))
    return jax.shard_map(fun, mesh=mesh, in_specs=(WHOLE,) * len(args), out_specs=WHOLE)(*args)


def draw_inside(p, key):
    return mapped(lambda p, key: 2.0 * random.bernoulli(key, p), p, key)


def noise_inside(p, key):
    return jnp.floor(p + mapped(random.normal, key))


def jump_inside(p, key):
    noise = random.normal(key)
    return mapped(lambda moved: jnp.floor(moved), p + noise) + noise


def collective(p, key):
    def of_one_device(p, key):
        def cost(p):
            return lax.pmean(2.0 * random.bernoulli(key, p) + p**2, "batch")

        return jscg.grad_expectation(cost)(p)

    return mapped(of_one_device, p, key)


@pytest.mark.parametrize(
    "fun, message",
    [
        (draw_inside, "the shard_map at .*'draw' at .* stands in it"),
        (noise_inside, "the shard_map at .*'draw' stands in it"),
        (jump_inside, "the shard_map at .*meet in 'floor' at .*which jumps"),
    ],
)
def test_what_a_shard_map_hides_is_refused(fun, message):
    with pytest.raises(jscg.JscgError, match=message) as error:
        jscg.grad_expectation(fun)(0.3, KEY)
    assert "test_many_devices.py:" in str(error.value)


def test_a_shard_map_without_noise_passes():
    def fun(p, key):
        return p * random.bernoulli(key, 0.5) + mapped(jnp.square, p)

    want = jax.grad(fun)(0.3, KEY)
    assert jscg.grad_expectation(fun)(0.3, KEY) == pytest.approx(want)


def test_collectives_of_what_is_scored_are_refused():
    with pytest.raises(jscg.JscgError, match="'psum.*' at .*exchanges values with other devices"):
        collective(0.3, KEY)
