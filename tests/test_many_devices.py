"""Many devices: simulated ones, and two processes.  Each check runs in processes of its own."""

import os
import pathlib
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def start(script, *args, devices):
    """Starts a script of `tests/devices` with so many CPU devices."""
    flags = f"{FLAGS} --xla_force_host_platform_device_count={devices}"
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


def test_sharded_gradients_are_those_of_one_device():
    (output,) = finish([start("one_process.py", devices=8)], timeout=600)
    assert output.count("equal:") == 15


def test_two_processes_give_the_gradient_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start("two_processes.py", port, number, devices=1) for number in range(2)]
    finish(both, timeout=300)
