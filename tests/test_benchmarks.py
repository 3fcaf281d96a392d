"""What the benchmarks compare with must be right, and their ratios what they say."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import QUICK

from benchmarks import checks, device, harness, nvil, overhead, programs, suite
from benchmarks.harness import Ratio
from benchmarks.workloads import TINY, load

pytestmark = pytest.mark.slow

load()

# Workloads that differ in size only share what is tiny: one of each.  What takes longest to compile
# is left to `python -m benchmarks --check`; tests/test_workloads.py has the last two.
FAMILIES = set({make: name for name, make in reversed(TINY.items())}.values())
FAMILIES -= {"NVIL, 1 sample, scored", "cartpole, 64 environments", "BBVI, gamma and Poisson"}


def gradients_of(workload):
    return checks.equal_ones(workload) | {"textbook": workload.textbook[1]}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_by_hand(name):
    """Variants agree with each other and with jscg at the same draws, and are unbiased."""
    workload = TINY[name]()
    found = checks.take(workload, gradients_of(workload), 1_000, **QUICK)
    assert max(checks.differences(workload, found).values()) < suite.LARGEST_DIFFERENCE
    assert max(checks.distances(workload, found).values(), default=0.0) < suite.LARGEST_Z


def test_what_is_wrong_is_found():
    """A factor that is forgotten."""
    right = TINY["bernoulli, D = 100, scored"]()

    def doubled(params, key):
        return 2.0 * right.hand["by hand"](params, key)

    wrong = dataclasses.replace(right, hand={**right.hand, "doubled": doubled})
    found = checks.take(wrong, gradients_of(wrong), 1_000, **QUICK)
    assert checks.differences(wrong, found)["doubled"] > suite.LARGEST_DIFFERENCE
    distances = checks.distances(wrong, found)
    assert distances["doubled"] > suite.LARGEST_Z > distances["by hand"]


def test_a_workload_is_measured(monkeypatch):
    """From the workload to the line of the table; times are whatever they are."""
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # other tests want theirs
    workload = TINY["bernoulli, D = 100"]()
    found = suite.measure("bits", workload, suite.Options(2, 1, 0.1))
    assert found.hand in workload.hand
    assert found.difference < suite.LARGEST_DIFFERENCE and found.z < suite.LARGEST_Z
    assert min(found.time.median, found.floor.median, found.compilation.median) > 0
    cells = dict(zip(suite.HEADER, suite.line(found), strict=True))
    assert cells["workload"] == "bits" and cells["variance / textbook"] == "exact"


def test_variances():
    """Credit per element: with five elements, a fifth of the variance."""
    workload = TINY["bernoulli, D = 100, scored"]()
    default = suite.gradient_of(workload, workload.default)
    tensors, z = suite.variances(workload, default, suite.Options())
    assert 0.1 < measured(tensors=tensors).variance < 0.4
    assert z < suite.LARGEST_Z


def measured(**changes):
    """Everything within its goal."""
    one = Ratio.of([1.0], [1.0])
    tensor = suite.Tensor("w", 0.25, [0.2, 0.3])
    found = suite.Measured("", "", one, one, one, (1, 1), 1e-6, [tensor], one, 1.0, True)
    return dataclasses.replace(found, **changes)


def test_goals():
    """Each is missed for itself, and what is not known is not missed."""
    assert measured().missed == []
    assert measured(z=math.nan, difference=math.nan).missed == []
    assert measured(time=Ratio.of([1.08], [1.0])).missed == ["time"]
    assert measured(time=Ratio.of([1.08e-4], [1e-4])).missed == []  # threads that wake up
    slow = Ratio.of([2.1], [1.0])
    assert measured(work=slow).missed == ["variance x time"]
    assert measured(work=slow, finer=False).missed == []
    assert measured(difference=2e-3).missed == ["gradients differ"]
    assert measured(z=4.6).missed == ["biased"]


def test_no_large_tensor_rules():
    """The geometric mean over tensors; what is exact is said, and is no factor of zero."""
    tensors = [suite.Tensor("a", 0.01, [0.01, 0.01]), suite.Tensor("b", 1.0, [1.0, 1.0])]
    exact = suite.Tensor("c", 0.0, [0.0, 0.0])
    assert measured(tensors=tensors).variance == pytest.approx(0.1)
    assert measured(tensors=[*tensors, exact]).blocks == pytest.approx([0.1, 0.1])
    assert measured(tensors=[exact]).product == 0.0


def test_ratio():
    """Of pairs, not of medians: a machine that is slow for a while slows both."""
    ratio = Ratio.of([2.0, 20.0, 2.0, 2.2], [1.0, 10.0, 1.0, 1.0])
    assert ratio.median == 2.0 and ratio.low == 2.0 and ratio.quickest == 2.0
    assert ratio.high == pytest.approx(2.05) and ratio.pairs == 4


def test_calls_take_turns():
    """With a clock that is advanced by the calls themselves."""
    now, order = [0.0], []

    def call(name, seconds):
        now[0] += seconds
        order.append(name)

    ratio = harness.time_ratio(
        lambda: call("a", 3.0), lambda: call("b", 2.0), pairs=3, clock=lambda: now[0]
    )
    assert ratio.median == pytest.approx(1.5)
    runs = "".join(a for a, b in zip(order, [*order[1:], ""], strict=True) if a != b)
    assert runs.endswith("ababab")


def test_quickest():
    """The one that does less."""
    found = harness.quickest({"much": lambda: sum(range(100_000)), "little": lambda: 0}, rounds=2)
    assert min(found, key=found.get) == "little"


def test_moments():
    """Against the moments of all gradients at once."""
    keys = jax.random.split(jax.random.key(0), 400)
    scale = jnp.arange(1.0, 4.0)

    def gradient(scale, key):
        return {"w": 2.0 + scale * jax.random.normal(key, (3,)), "b": jnp.ones(())}

    found = harness.moments(gradient, scale, keys, blocks=2)
    every = np.asarray(jax.vmap(lambda key: gradient(scale, key)["w"])(keys), np.float64)
    for block, variances in zip(every.reshape(2, 200, 3), found.variances, strict=True):
        assert variances["w"] == pytest.approx(block.var(0, ddof=1).sum(), rel=1e-4)
        assert variances["b"] == 0.0
    exact = {"w": jnp.full(3, 2.0), "b": jnp.ones(())}
    assert harness.standard_errors(found.along, exact) < 4.5
    assert harness.standard_errors(found.along, {"w": jnp.full(3, 3.0), "b": jnp.ones(())}) > 4.5


def test_operations_of_products():
    """Of all nested programs, those of a loop at every step."""

    def fun(a, b):
        step = jax.jit(lambda a, _: (a @ b @ b.T, None))
        return jnp.einsum("ij,ij->i", jax.lax.scan(step, a, length=5)[0], a)

    jaxpr = jax.make_jaxpr(fun)(jnp.ones((4, 3)), jnp.ones((3, 7)))
    assert programs.product_operations(jaxpr) == 5 * 2 * (2 * 4 * 3 * 7) + 2 * 4 * 3


def test_no_exponent_of_one_size():
    assert overhead.large([55, 445, 1019]) == []
    assert overhead.large([55, 1019, 3019]) == [1, 2]


def test_what_a_gradient_uses_of_a_device():
    """Useful work is the same for both, so that the one that takes longer has the smaller share."""
    params = nvil.init(jax.random.key(0), visible=3, units=(4, 4, 4))
    peak = device.Peak.measure(size=64, length=1_000)
    assert min(dataclasses.astuple(peak)) > 0
    by_hand, ours = device.measure("score", params, jnp.ones((32, 3)), 2, peak)
    assert ours.name == "score, jscg" and by_hand.host == ours.host == 0
    shares = [found.operations * found.time.first for found in (by_hand, ours)]
    assert shares[0] == pytest.approx(shares[1]) and by_hand.bytes > 0
