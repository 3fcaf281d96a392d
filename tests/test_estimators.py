"""Contracts that every estimator keeps, with every family that it takes and in every context."""

import contextlib
import dataclasses
import doctest
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.experimental import io_callback
from jax.nn import sigmoid
from jax.scipy.special import gammaincc, gammaln
from jax.scipy.stats import norm
from oracle import BOUND, FIRST_ORDER, assert_case, derivatives_of, refuses, samples, z_of
from programs import CONTEXTS, DISCRETE, LAYOUTS

import jscg
from jscg import estimators as every
from jscg.draws import FAMILIES

KEY = random.key(20221029)
ESTIMATORS = {
    "ARM": every.ARM(),
    "ARMS": every.ARMS(samples=3),
    "Auto": every.Auto(),
    "Coupled": every.Coupled(),
    "DisARM": every.DisARM(),
    "DoubleControlVariates": every.DoubleControlVariates(),
    "Enumerate": every.Enumerate(),
    "LeaveOneOut": every.LeaveOneOut(samples=3),
    "MeasureValued": every.MeasureValued(),
    "Pathwise": every.Pathwise(),
    "REBAR": every.REBAR(),
    "ScoreFunction": every.ScoreFunction(),
    "UnorderedSet": every.UnorderedSet(samples=2),
}


BIASED = {
    "GumbelSoftmax": every.GumbelSoftmax(temperature=0.7),
    "StraightThrough": every.StraightThrough(temperature=0.7, samples=3),
}


def from_the_page():
    """The estimator that `docs/write_an_estimator.md` writes."""
    text = (Path(__file__).parent.parent / "docs" / "write_an_estimator.md").read_text()
    names = {}
    for example in doctest.DocTestParser().get_examples(text):
        if example.source.startswith(("import", "@")):
            exec(example.source, names)
    return names["Twice"]()


COMPARING = {name: e for name, e in ESTIMATORS.items() if e.compares}
COMPARING["Twice"] = from_the_page()
# With what `Auto` is where only the first derivative is wanted.
FIRST = {"Auto": FIRST_ORDER, **COMPARING}
CASES = {case.name: case for case in CONTEXTS + LAYOUTS + DISCRETE}


def usable(case, estimators):
    """Those that do not decline this program."""

    def declines(estimator):
        return refuses(case, derivatives_of(case.fun, estimator)[0], KEY)

    return {name: e for name, e in estimators.items() if not declines(e)}


def test_every_estimator_is_among_them():
    classes = {name for name in every.__all__ if isinstance(getattr(every, name), type)}
    known = {n for n in classes if issubclass(getattr(every, n), every.Estimator)}
    assert known - {"Estimator"} == ESTIMATORS.keys() | BIASED.keys()
    assert all(e.unbiased for e in ESTIMATORS.values())
    assert not any(e.unbiased for e in BIASED.values())


# Which estimators take which family; the score function takes all.
RELAXED = {"DoubleControlVariates", "REBAR"}
TAKEN = {
    "bernoulli_with_a_shape": COMPARING.keys(),
    "categorical_batch": {"Coupled", "LeaveOneOut", "MeasureValued", "UnorderedSet", *RELAXED},
    "poisson": {"Coupled", "LeaveOneOut", "MeasureValued"},
    "multinomial_of_softmax": {"LeaveOneOut"},
}
ALSO_TAKEN = {
    "choice_of_an_index": {"LeaveOneOut", "UnorderedSet", *RELAXED},
    "geometric": TAKEN["poisson"],
    "binomial_vector": TAKEN["poisson"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKEN)
def test_unbiased_for_every_family(name):
    case = dataclasses.replace(CASES[name], order=1)
    found = usable(case, FIRST)
    assert found.keys() == {"Auto", "Twice", *TAKEN[name]}
    assert_case(case, KEY, found)


@pytest.mark.parametrize("name", ALSO_TAKEN)
def test_families_whose_rules_are_shared_or_tested_exactly_are_taken(name):
    found = usable(dataclasses.replace(CASES[name], order=1), FIRST)
    assert found.keys() == {"Auto", "Twice", *ALSO_TAKEN[name]}


# A draw in a chain, costs in the carry and stacked, branches, batches, draws behind draws.
ONE_OF_A_KIND = {n: FIRST[n] for n in ["Auto", "Coupled", "LeaveOneOut", "MeasureValued"]}
PLACES = [
    "draw_feeding_draw_feeding_draw",
    "scan_markov_chain",
    "scan_two_draws_in_each_step",
    "cond_with_a_cost_afterwards",
    "batch_of_examples",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_unbiased_wherever_a_draw_stands(name):
    case = dataclasses.replace(CASES[name], order=1)
    found = usable(case, FIRST if name == "batch_of_examples" else ONE_OF_A_KIND)
    assert found.keys() >= {"Auto", "Coupled", "MeasureValued"}
    assert_case(case, KEY, found)


MORE_PLACES = [
    "scan_cost_in_carry",
    "scan_nested",
    "scan_draws_mixed_after_the_loop",
    "scan_reversed",
    "switch_on_a_draw",
    "cond_inside_scan",
    "checkpoint_inside_scan",
    "normal_then_bernoulli",
    "drawn_index_gathers_parameters",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_PLACES)
def test_coupled_wherever_a_draw_stands(name):
    case = dataclasses.replace(CASES[name], order=1)
    assert_case(case, KEY, {"coupled": every.Coupled()})


def several(th, key):
    """Draws of several families, one behind the other, in a batch."""
    k1, k2, k3 = random.split(key, 3)
    x = random.bernoulli(k1, sigmoid(th[0]), (4, 2))
    n = random.poisson(k2, jnp.exp(th[1] * jnp.sum(x, -1)))
    y = th[0] * random.normal(k3, (4,)) + n
    return jnp.mean(jnp.sqrt(1 + n) + jnp.prod(1.0 + x, -1) + y * x[:, 0])


def exact_of_several(th):
    out, counts = 0.0, jnp.arange(60)
    for a in (0, 1):
        for b in (0, 1):
            p = jnp.prod(jnp.where(np.array([a, b]) == 1, sigmoid(th[0]), sigmoid(-th[0])))
            rate = jnp.exp(th[1] * (a + b))
            chances = jnp.exp(counts * jnp.log(rate) - rate - gammaln(counts + 1.0))
            out += p * (jnp.sum(chances * jnp.sqrt(1.0 + counts)) + (1 + a) * (1 + b) + rate * a)
    return out


TH = jnp.array([0.4, -0.6])


@pytest.mark.slow
@pytest.mark.parametrize(
    "x, n",
    [("Coupled", "MeasureValued"), ("Enumerate", "LeaveOneOut"), ("DisARM", "ScoreFunction")],
)
def test_estimators_mix_in_one_program(x, n):
    choice = {"x": ESTIMATORS[x], "n": ESTIMATORS[n]}
    if x == "Enumerate":
        with pytest.raises(jscg.JscgError, match="another draw that needs a score"):
            jscg.grad_expectation(several, estimators=choice)(TH, KEY)
        choice["x"] = every.Auto()
    gradient = jscg.grad_expectation(several, estimators=choice)
    found = samples(lambda key: gradient(TH, key), KEY, 20_000)
    assert np.all(np.abs(z_of(found, jax.grad(exact_of_several)(TH))) < BOUND)


def nested(th, key):
    """Draws above each other in a branch, in a loop, in a vmap over examples."""

    def step(total, k):
        k1, k2, k3 = random.split(k, 3)
        x = random.bernoulli(k1, sigmoid(th[0] + 0.3 * total))
        y = random.bernoulli(k2, sigmoid(th[1] * x), (2,))
        z = y + jnp.exp(th[0]) * random.normal(k3, (2,))
        cost = lax.cond(x, lambda z: jnp.sum(2.0 * z**2), lambda z: jnp.sum(z**2), z)
        return total + 1.0 * x, cost

    def example(k):
        return jnp.sum(lax.scan(step, 0.0, random.split(k, 2))[1])

    return jnp.mean(jax.vmap(example)(random.split(key, 3)))


def exact_of_nested(th):
    def at(x, total):
        p = sigmoid(th[0] + 0.3 * total)
        return jnp.where(x, p, 1 - p), (1 + x) * 2 * (sigmoid(th[1] * x) + jnp.exp(2 * th[0]))

    out = 0.0
    for a in (0, 1):
        for b in (0, 1):
            (p, first), (q, second) = at(a, 0.0), at(b, 1.0 * a)
            out += p * q * (first + second)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "x, y", [("ScoreFunction", "Auto"), ("Coupled", "REBAR"), ("Auto", "DoubleControlVariates")]
)
def test_estimators_mix_in_loops_branches_and_vmap(x, y):
    gradient = jscg.grad_expectation(nested, estimators={"x": ESTIMATORS[x], "y": ESTIMATORS[y]})
    found = samples(lambda key: gradient(TH, key), KEY, 20_000)
    assert np.all(np.abs(z_of(found, jax.grad(exact_of_nested)(TH))) < BOUND)


@pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - {"Pathwise"}))
def test_jit_vmap_samples_and_dtypes(name):
    def cost(p, key):
        x = random.bernoulli(key, sigmoid(p["logits"]))
        return p["scale"] * jnp.prod(1.0 + x).astype(p["scale"].dtype)

    p = {"logits": jnp.array([0.3, -0.2, 1.0]), "scale": jnp.bfloat16(2.0)}
    gradient = jscg.grad_expectation(cost, estimators=ESTIMATORS[name])
    many = jscg.grad_expectation(cost, estimators=ESTIMATORS[name], num_samples=5)
    keys = random.split(KEY, 3)

    @jax.jit
    def everywhere(p):
        mapped = jax.vmap(gradient, (None, 0))(p, keys)
        scanned = lax.scan(lambda c, k: (c, gradient(p, k)), None, keys)[1]
        return gradient(p, keys[1]), mapped, scanned, many(p, KEY)

    one, mapped, scanned, averaged = everywhere(p)
    for found in (one, averaged):
        assert jax.tree.map(jax.typeof, found) == jax.tree.map(jax.typeof, p)
        assert jax.tree.all(jax.tree.map(lambda g: jnp.all(jnp.isfinite(g)), found))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-5)  # noqa: E731
    jax.tree.map(lambda m, g: close(m[1], g), mapped, one)
    jax.tree.map(close, scanned, mapped)


EDGES = {
    "bernoulli": lambda th, k: random.bernoulli(k, sigmoid(th)),
    "bernoulli of p": lambda th, k: random.bernoulli(k, jnp.clip(th, 0, 1)),
    "categorical": lambda th, k: random.categorical(k, jnp.stack([th, -th, 0 * th], -1)),
    "poisson": lambda th, k: random.poisson(k, jnp.maximum(th, 0)),
    "binomial": lambda th, k: random.binomial(k, 3.0, sigmoid(th)),
    "geometric": lambda th, k: random.geometric(k, jnp.clip(th, 1e-4, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", EDGES)
def test_no_nan_at_the_edge_of_the_support(family):
    th = jnp.array([-200.0, 0.0, 1.0, 90.0])
    draw = EDGES[family]

    def cost(th, key):
        return jnp.sum(jnp.tanh(jnp.cumsum(draw(th, key) * 1.0)))

    gradients = {}
    for name, estimator in COMPARING.items():
        gradient = jscg.grad_expectation(cost, estimators=estimator)
        with contextlib.suppress(jscg.JscgError):
            jax.eval_shape(gradient, th, KEY)
            gradients[name] = gradient
    assert "Coupled" in gradients
    found = samples(lambda k: {n: g(th, k) for n, g in gradients.items()}, KEY, 20)
    for name, each in found.items():
        assert np.all(np.isfinite(each)), (name, each)


@pytest.mark.parametrize("name", COMPARING)
def test_a_second_derivative_is_refused(name):
    def cost(th, key):
        return jnp.prod(1.0 + th[1] * random.bernoulli(key, sigmoid(th[0]), (2,)))

    s = jscg.surrogate(cost, estimators=COMPARING[name])
    # What the last one cannot see is as wrong: the cost depends on th[1], the draw does not.
    seconds = [jax.hessian(s), jax.jacrev(jax.grad(s)), jax.jacfwd(jax.jacfwd(s))]
    seconds.append(jax.jacfwd(lambda b, key: jax.grad(s)(jnp.stack([TH[0], b[0]]), key)[0]))
    for second in seconds:
        with pytest.raises(jscg.JscgError, match="first derivative only"):
            jax.eval_shape(second, TH, KEY)


@pytest.mark.parametrize("estimator", [None, every.Coupled()], ids=["default", "Coupled"])
def test_further_runs_are_silent_and_have_no_effects(estimator):
    seen = []

    def in_a_loop(p, key):
        def step(x, k):
            x = x + random.bernoulli(k, p)
            jax.debug.callback(seen.append, x)
            return x, None

        return lax.scan(step, 0.0, random.split(key, 2))[0] ** 2

    def at_the_top(p, key):
        x = random.bernoulli(key, p)
        jax.debug.callback(seen.append, x)
        return jnp.exp(1.0 * x)

    for fun, count in ((in_a_loop, 2), (at_the_top, 1)):
        seen.clear()
        jscg.grad_expectation(fun, estimators=estimator)(0.4, KEY)
        jax.effects_barrier()
        assert len(seen) == count

    def with_effects(p, key):
        x = random.bernoulli(key, p)
        io_callback(seen.append, None, x, ordered=True)
        return jnp.exp(1.0 * x)

    seen.clear()
    gradient = jscg.grad_expectation(with_effects, estimators=estimator)
    if estimator is None:
        gradient(0.4, KEY)
        jax.effects_barrier()
        assert len(seen) == 1
    else:
        with pytest.raises(jscg.JscgError, match="has effects"):
            gradient(0.4, KEY)


# Continuous draws, by the derivative of their law: for each the expectation of cost(x).

CUT = 0.5
CONTINUOUS_LAWS = {
    "normal": (
        lambda th, k: th[0] + th[1] * random.normal(k, (2,)),
        lambda th: th[0] ** 2 + th[1] ** 2 + norm.cdf((th[0] - CUT) / th[1]),
    ),
    "gamma": (
        lambda th, k: random.gamma(k, 2.5, (2,)) / (th[0] * th[1]) ** 0.5,
        lambda th: 2.5 * 3.5 / (th[0] * th[1]) + gammaincc(2.5, CUT * (th[0] * th[1]) ** 0.5),
    ),
    "exponential": (
        lambda th, k: -th[0] * random.exponential(k, (2,)) * -th[1],
        lambda th: 2 * (th[0] * th[1]) ** 2 + jnp.exp(-CUT / (th[0] * th[1])),
    ),
}


@pytest.mark.parametrize("family", CONTINUOUS_LAWS)
def test_measure_valued_derivatives_of_continuous_draws(family):
    """The costs of two elements are mixed; half of each jumps."""
    draw, expected = CONTINUOUS_LAWS[family]

    def cost(th, key):
        x = draw(th, key)
        each = x**2 + (x > CUT)
        return each[0] * each[1]

    th = jnp.array([0.6, 0.9])
    exact = jax.grad(lambda th: expected(th) ** 2)(th)
    spread = {}
    for e in (every.MeasureValued(), every.ScoreFunction()):
        gradient = jscg.grad_expectation(cost, estimators={family: e})
        found = samples(lambda k, g=gradient: g(th, k), KEY, 60_000)
        assert np.all(np.abs(z_of(found, exact)) < BOUND)
        spread[type(e).__name__] = found.std(0)
    assert np.all(spread["MeasureValued"] < 0.8 * spread["ScoreFunction"]), spread


REFUSED = {
    "exponential": (lambda th, k: th[0] + random.exponential(k), "an end of its support is moved"),
    "gamma": (lambda th, k: th[0] * random.gamma(k, th[1]), "'a', for which no score"),
    "t": (lambda th, k: th[0] * random.t(k, 3.0), "no derivative of the law of t"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_measure_valued_is_refused_where_nothing_is_known(family):
    draw, why = REFUSED[family]
    with pytest.raises(jscg.JscgError, match=why):
        jscg.grad_expectation(draw, estimators={family: every.MeasureValued()})(-TH, KEY)


# The rules of families that estimators are made of, summed over outcomes.

RULES = {
    "bernoulli": ({"p": 0.3}, 2),
    "categorical": ({"logits": np.array([0.5, -0.3, 0.1, -2.0])}, 4),
    "poisson": ({"lam": 1.7}, 30),
    "binomial": ({"n": 4.0, "p": 0.3}, 5),
    "geometric": ({"p": 0.35}, 80),
}
WITH_RULES = {n for n, f in FAMILIES.items() if f.neighbour or f.weak_derivative} - {"located"}


@pytest.mark.parametrize("rule", ["neighbour", "weak_derivative"])
@pytest.mark.parametrize("family", sorted(WITH_RULES))
def test_rules_of_families_are_exact_for_any_cost(family, rule):
    """Averaged over the outcomes and over the noise of the rule, for a cost that is not smooth."""
    operands, count = RULES[family]
    with jax.enable_x64(True):
        operands = {k: jnp.asarray(v, jnp.float64) for k, v in operands.items()}
        known = FAMILIES[family]
        x = jnp.arange(count) + (family == "geometric")
        x = x.astype(bool) if family == "bernoulli" else x
        cost = lambda x: jnp.sin(5.0 * x) + x  # noqa: E731
        moving = "logits" if family == "categorical" else known.scored[0]

        def log_prob(x, value):
            return known.log_prob(x, {}, **{**operands, moving: value})

        score = jax.jacfwd(log_prob, argnums=1)
        value = operands[moving]
        probs = jnp.exp(log_prob(x, value))
        exact = jax.grad(lambda v: jnp.sum(jnp.exp(log_prob(x, v)) * cost(x)))(value)
        grid = (jnp.arange(1_000) + 0.5) / 1_000

        def found(u):
            u = jnp.full(x.shape, u)
            u = u if rule == "neighbour" else (u, u)
            made = getattr(known, rule)(u, x, {}, **operands)
            if rule == "neighbour":
                other, weight = made
                values, outcomes, rows = [other, None], [other, x], [[weight, -weight]]
                rows.append([-weight, weight])
            else:
                values, outcomes, rows = made
            total = 0.0
            for v, row in zip(values, rows, strict=True):
                for outcome, coefficient in zip(outcomes, row, strict=True):
                    if coefficient is None:
                        continue
                    counts = probs * coefficient * cost(x if v is None else v)
                    total += jnp.tensordot(counts, score(outcome, value), 1)
            return total

        mean = jax.jit(lambda u: jnp.mean(jax.vmap(found)(u), 0))(grid)
        np.testing.assert_allclose(mean, exact, rtol=4e-3, atol=4e-3)


def of_classes(logits, key):
    x = random.categorical(key, logits)
    return jnp.sin(jnp.sum(x * 1.0)) + jnp.sum(jnp.cos(x * 0.3))


@pytest.mark.parametrize("draws", [1, 2])
def test_measure_valued_derivatives_of_many_classes(draws):
    """More than are run at once; of one draw they are exact."""
    logits = random.normal(KEY, (draws, 20))

    def exact(logits):
        p = jax.nn.softmax(logits)
        at = jnp.stack(jnp.meshgrid(*[jnp.arange(20.0)] * draws, indexing="ij"), -1)
        value = jnp.sin(at.sum(-1)) + jnp.cos(at * 0.3).sum(-1)
        for row in reversed(p):
            value = value @ row
        return value

    g = jscg.grad_expectation(of_classes, estimators=every.MeasureValued())
    found = samples(lambda k: g(logits, k), KEY, 1 if draws == 1 else 4_000)
    truth = jax.grad(exact)(logits)
    if draws == 1:
        np.testing.assert_allclose(found[0], truth, atol=1e-6)
    else:
        assert np.all(np.abs(z_of(found, truth)) < BOUND)


def test_what_is_compiled_for_many_classes_is_linear_in_them():
    def size(classes):
        g = jscg.grad_expectation(of_classes, estimators=every.MeasureValued())
        return len(str(jax.make_jaxpr(g)(jnp.zeros((1, classes)), KEY)))

    one, two, four = size(40), size(80), size(160)
    assert four - two < 2.2 * (two - one)


# Variances.


def walk(steps):
    def fun(p, key):
        def step(x, k):
            return x + jnp.where(random.bernoulli(k, jnp.exp(-x / p)), 1.0, -1.0), None

        return lax.scan(step, 0.0, random.split(key, steps))[0] ** 2

    return fun


def test_coupled_on_the_random_walk_of_stochastic_triples():
    """50 steps, E[X^2] at p = 100; the published estimator has a standard deviation of 4.34."""
    gradient = jscg.grad_expectation(walk(50), estimators=every.Coupled())
    found = samples(lambda k: gradient(100.0, k), KEY, 20_000)
    assert abs(z_of(found, 7.5582)) < BOUND
    assert found.std() < 4.6


@pytest.mark.slow
def test_order_of_variances_of_antithetic_estimators():
    """E[(x - 0.499)^2] summed before it is squared: ARMS < DisARM < ARM < score function."""

    def cost(th, key):
        x = random.bernoulli(key, sigmoid(th), (6,))
        return (jnp.sum(x) - 2.5) ** 2

    spread = {}
    for name, e in {"Score": every.ScoreFunction(None), **COMPARING}.items():
        gradient = jscg.grad_expectation(cost, estimators=e)
        spread[name] = samples(lambda k, g=gradient: g(0.7, k), KEY, 20_000).std()
    order = ["ARMS", "DisARM", "ARM", "Score"]
    assert sorted(order, key=spread.get) == order, spread
    assert spread["LeaveOneOut"] < spread["Score"]
