"""Calls without `jit`: nothing is traced or compiled twice, nothing kept, errors readable."""

import contextlib
import dataclasses
import gc
import traceback
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random

import jscg
from jscg._program import Program

KEY = random.key(0)


def program():
    """A new function with a loop, and the list of its traces."""
    traces = []

    def cost(p, key, times=1, scale=2.0):
        traces.append(None)

        def step(x, k):
            y = random.bernoulli(k, jax.nn.sigmoid(x)).astype(float)
            return x + scale * y, y

        x, ys = lax.scan(step, p, random.split(key, 3))
        return jnp.sum(x + times * jnp.sum(ys))

    return cost, traces


@contextlib.contextmanager
def compilations():
    """Counts what is compiled."""
    found = []

    def listen(event, seconds, **kwargs):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


MAKERS = {
    "gradient": jscg.grad_expectation,
    "value and gradient": jscg.value_and_grad_expectation,
    "surrogate": jscg.surrogate,
    "gradient of the surrogate": lambda fun: jax.grad(jscg.surrogate(fun)),
    "samples": lambda fun: jscg.grad_expectation(fun, num_samples=4),
    "vmap": lambda fun: jax.vmap(jscg.grad_expectation(fun), (0, None)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_second_call_traces_and_compiles_nothing(name):
    cost, traces = program()
    p = jnp.full((2,), 0.3) if name == "vmap" else jnp.float32(0.3)
    call = MAKERS[name](cost)
    first = call(p, KEY)
    for again in (call, MAKERS[name](cost)):  # whoever asks
        # What JAX itself does for a transformation of another function object it may do anew.
        again(p, KEY)
        before = len(traces)
        with compilations() as compiled:
            found = again(p, KEY)
        jax.tree.map(np.testing.assert_array_equal, found, first)
        assert len(traces) == before == 1 and not compiled


def test_a_bound_compiles_once():
    def cost(logits, key):
        return jnp.arange(3.0)[random.categorical(key, logits)]

    at = jscg.upper_bound(cost)
    old, new, other = jnp.zeros(3), jnp.ones(3), random.key(1)
    at(old, KEY)(new)
    with compilations() as compiled:
        at(new, other)(old)
    assert not compiled


SCALE = 1.0


def scaled(p, key):
    return random.bernoulli(key, p) * factor()


def factor():
    return SCALE


def test_global_variables_are_those_of_the_call(monkeypatch):
    """As in a notebook, where a constant or a function is changed in a cell of its own."""
    call = jscg.grad_expectation(scaled)
    first = float(call(0.3, KEY))
    for name, value, times in (
        ("SCALE", 100.0, 100),
        ("factor", lambda: 7.0, 7),
        ("factor", factor, 100),  # as before; SCALE has changed
        ("SCALE", jnp.float32(5.0), 5),
    ):
        monkeypatch.setitem(globals(), name, value)
        for each in (call, jscg.grad_expectation(scaled)):
            assert each(0.3, KEY) == pytest.approx(times * first, rel=1e-6)
    other = random.key(1)
    with compilations() as compiled:
        call(0.3, other)
    assert not compiled


def test_what_encloses_a_function_and_its_own_code_may_change():
    scale = 1.0

    def cost(p, key):
        return random.bernoulli(key, p) * scale

    def other(p, key):
        return 3.0 * random.bernoulli(key, p) * scale

    call = jscg.grad_expectation(cost)
    first = float(call(0.3, KEY))
    scale = 2.0
    assert call(0.3, KEY) == pytest.approx(2 * first)
    cost.__code__ = other.__code__  # what IPython's autoreload does
    assert call(0.3, KEY) == pytest.approx(6 * first)


@pytest.mark.parametrize("names", ["", "SCALE", "SCALE + factor()"])
def test_functions_of_any_number_of_global_variables(names):
    space = {"SCALE": SCALE, "factor": factor, "random": random}
    exec(f"def cost(p, key):\n  return random.bernoulli(key, p) * ({names or 1.0})", space)
    call = jscg.grad_expectation(space["cost"])
    first = float(call(0.3, KEY))
    space["SCALE"] = 3.0
    ratio = {"": 1.0, "SCALE": 3.0, "SCALE + factor()": 2.0}[names]
    assert call(0.3, KEY) == pytest.approx(ratio * first)


def test_an_attribute_is_no_global_variable(monkeypatch):
    class State:
        SCALE = 2.0

    state, traces = State(), []

    def cost(p, key):
        traces.append(None)
        return random.bernoulli(key, p) * state.SCALE

    call = jscg.grad_expectation(cost)
    for value in (1.0, 2.0, 3.0):
        monkeypatch.setitem(globals(), "SCALE", value)
        call(0.3, KEY)
    assert len(traces) == 1


def test_what_is_compiled_is_for_these_arguments_and_options():
    cost, traces = program()
    call = jscg.grad_expectation(cost)
    call(0.3, KEY)
    for other in (
        lambda: call(jnp.ones(2), KEY),
        lambda: call(0.3, KEY, 5),  # a number that is no argument of the gradient is fixed
        lambda: call(0.3, KEY, 5.0),
        lambda: call(0.3, KEY, scale=3.0),
        lambda: jscg.grad_expectation(cost, num_samples=2)(0.3, KEY),
        lambda: jscg.grad_expectation(cost, argnums=(0,))(0.3, KEY),
        lambda: jscg.grad_expectation(cost, estimators=jscg.estimators.ScoreFunction())(0.3, KEY),
    ):
        before = len(traces)
        other()
        assert len(traces) == before + 1
        other()
        assert len(traces) == before + 1
    assert isinstance(jscg.grad_expectation(cost, argnums=(0,))(0.3, KEY), tuple)
    assert isinstance(call(0.3, KEY), jax.Array)


def test_numbers_that_are_fixed_are_told_apart():
    cost, _ = program()
    call = jscg.surrogate(cost, estimators=jscg.estimators.ScoreFunction())
    at = [float(call(0.3, KEY, times)) for times in (1, 5)]
    assert at[0] != at[1]
    assert at == pytest.approx([float(cost(jnp.float32(0.3), KEY, times)) for times in (1, 5)])


def programs_alive():
    gc.collect()
    return {id(o) for o in gc.get_objects() if isinstance(o, Program)}


@pytest.mark.parametrize("number", [2, 2.0, True], ids=str)
def test_a_number_is_fixed_whatever_arrays_came_before(number):
    """As an array it would have the type of one: JAX finds what was compiled by types alone."""
    seen = []

    def cost(p, key, times):
        seen.append(times)
        return p * random.bernoulli(key, p) * times

    call, p = jscg.grad_expectation(cost), jnp.float32(0.3)
    alike = jnp.asarray(number) if number is True else jnp.asarray(number) * 1
    assert jax.typeof(alike).weak_type or number is True
    for times in (jnp.float32(3.0), alike, number, jnp.float32(3.0), alike):
        call(p, KEY, times)
    assert [s is number for s in seen] == [False, False, True]
    with compilations() as compiled:
        for times in (jnp.float32(4.0), alike, number):
            call(p, KEY, times)
    assert not compiled


def test_functions_die_and_leave_nothing_behind():
    alive, counts, before = [], [], programs_alive()
    for i in range(6):
        cost, _ = program()
        jscg.grad_expectation(cost)(0.1, KEY)
        jscg.surrogate(cost)(0.1, KEY)
        jscg.graph(cost)(0.1, KEY)
        with pytest.raises(TypeError):
            jscg.grad_expectation(cost)(1, KEY)
        alive.append(weakref.ref(cost))
        del cost
        gc.collect()
        if i >= 3:
            counts.append(len(gc.get_objects()))
    assert not any(ref() for ref in alive)
    assert programs_alive() <= before
    # JAX keeps some sixty small objects of each program with an argmax.
    assert (counts[-1] - counts[0]) / (len(counts) - 1) < 150


@dataclasses.dataclass(frozen=True)
class Model:
    scale: float = 2.0

    def loss(self, p, key):
        return self.scale * random.bernoulli(key, p)

    __call__ = loss


@pytest.mark.parametrize(
    "get", [lambda: Model(), lambda m=Model(): m.loss], ids=["equal", "method"]
)
def test_equal_functions_live_by_themselves(get):
    """A program of one must not be left to another when the first is gone."""
    first = jscg.grad_expectation(get())
    first(0.5, KEY)
    second = jscg.grad_expectation(get())
    del first
    gc.collect()
    np.testing.assert_allclose(second(jnp.full(1, 0.5)[0], KEY), 2.0)


def test_calls_that_do_nothing():
    def cost(p, key):
        return jnp.prod(jnp.atleast_1d(random.bernoulli(key, p, (2,))) + p)

    assert np.isfinite(jscg.grad_expectation(cost)(0.5, KEY))


def test_what_a_loop_stacks_of_the_outside():
    def cost(p, key):
        outside = random.bernoulli(key, p) * 2.0 + p
        step = lambda c, t: (c + t, (c, outside))  # noqa: E731
        return lax.scan(step, 0.0, jnp.arange(3.0))[1][1][-1]

    np.testing.assert_allclose(jscg.grad_expectation(cost)(0.5, KEY), 3.0)


def test_no_tracer_is_kept_of_an_outer_transformation():
    def step(p, scale, key):
        def cost(p, key):
            return scale * random.bernoulli(key, p)

        return jscg.grad_expectation(cost)(p, key)

    with jax.checking_leaks():
        assert jax.jit(step)(0.5, 3.0, KEY).shape == ()
        both = jax.vmap(step, (None, 0, None))(0.5, jnp.array([1.0, 2.0]), KEY)
    assert both[1] == 2 * both[0]


# What is raised.


def frames_of(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_tracebacks_have_no_frame_of_ours():
    def bad(p, key):
        return undefined(p, key)  # noqa: F821

    def refused(p, key):
        noise = random.normal(key)
        return jnp.floor(p + noise) + noise

    for make in (jscg.grad_expectation, jscg.surrogate, jscg.graph, jscg.variance_report):
        for fun, inner in ((bad, ["bad"]), (refused, [])):
            with pytest.raises((NameError, jscg.JscgError)) as caught:
                make(fun)(0.3, KEY)
            mine = test_tracebacks_have_no_frame_of_ours.__name__
            assert frames_of(caught.value) == [mine, *inner]
    assert caught.value.__notes__ == ["jscg.explain() shows the way there, line by line."]


def test_all_frames_are_there_if_wanted():
    def bad(p, key):
        return undefined(p, key)  # noqa: F821

    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")
    try:
        with pytest.raises(NameError) as caught:
            jscg.grad_expectation(bad)(0.3, KEY)
    finally:
        jax.config.update("jax_traceback_filtering", before)
    assert len(frames_of(caught.value)) > 5


def tree_cost(theta, key):
    return theta["layers"][1] * random.bernoulli(key, 0.5)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1, "theta['layers'][1]' has dtype int32"),
        (True, "theta['layers'][1]' has dtype bool"),
        (1j, "theta['layers'][1]' has dtype complex64"),
        (random.key(1), "theta['layers'][1]' is a random key"),
        ("x", "theta['layers'][1]' is 'x', of type str"),
    ],
)
def test_a_parameter_without_a_gradient_is_named(value, said):
    with pytest.raises(TypeError) as caught:
        jscg.grad_expectation(tree_cost)({"layers": [0.5, value]}, KEY)
    assert said in str(caught.value).replace('"', "'")


def test_a_seed_is_no_key():
    for seed in (0, jnp.int32(3)):
        with pytest.raises(jscg.JscgError, match=r"key of this bernoulli draw.*jax.random.key"):
            jscg.grad_expectation(tree_cost)({"layers": [0.5, 0.3]}, seed)


def test_a_missing_key_is_missed():
    with pytest.raises(TypeError) as caught:
        jscg.grad_expectation(tree_cost)({"layers": [0.5, 0.3]})
    assert "no argument is a random key" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "fun",
    [
        lambda p, key: p * np.asarray(random.bernoulli(key, p)),
        lambda p, key: p * np.random.default_rng(0).binomial(1, p),
    ],
)
def test_numpy_is_told_from_jax_numpy(fun):
    with pytest.raises(jax.errors.TracerArrayConversionError) as caught:
        jscg.grad_expectation(fun)(0.5, KEY)
    (said,) = (note for note in caught.value.__notes__ if note.startswith("jscg"))
    assert "numpy cannot see a traced value" in said and "jax.random" in said


@pytest.mark.parametrize("what", ["graph", "explain", "variance_report", "check_unbiased"])
def test_what_awaits_arguments_says_so(what):
    found = getattr(jscg, what)(tree_cost)
    made = f"jscg.{what}(tree_cost)"
    assert (
        repr(found) == f"<{made}: call it with the arguments of the function, {made}(theta, key)>"
    )
    assert f"{what}(fun)(p, k)" in repr(getattr(jscg, what)(lambda p, k: p))
