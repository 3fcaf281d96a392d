"""`variance_report`: shares against exact enumeration and closed forms, alternatives, words."""

import dataclasses
import itertools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import sigmoid
from jax.scipy.special import gammaln
from oracle import BOUND, QUICK

import jscg
from jscg import _advice, _alternatives, _choices, _estimates, _signal
from jscg import estimators as est
from jscg._api import options_of
from jscg._work import WHILE_STEPS, work

pytestmark = pytest.mark.slow

KEY = random.key(20150622)
PLAIN = est.ScoreFunction(baseline=None)


def report_of(fun, *args, n=4000, **options):
    options = {"alternatives": [], "progress": False, **options}
    return jscg.variance_report(fun, num_estimates=n, **options)(*args)


def shares_are(report, expected):
    """Within the bound of standard errors that the report states itself, and these are small."""
    found = {d.name: d for d in report.draws}
    assert found.keys() == expected.keys()
    for name, exact in expected.items():
        d = found[name]
        assert d.standard_error < 0.12 * max(exact, 0.2), (name, d)
        assert abs(d.share - exact) < BOUND * d.standard_error + 1e-6, (name, d, exact)


# Against enumeration.  With the score function, a gradient is a function of what is drawn.


def chain(th, key):
    """Three draws, of which the second depends on the first."""
    k1, k2, k3 = random.split(key, 3)
    i = random.categorical(k1, jnp.array([0.0, 1.0, 0.5]) * th[0])
    x = random.bernoulli(k2, sigmoid(th[1] * (i - 1.0)))
    noise = random.bernoulli(k3, 0.3)
    cost = (1.0 + i) * (1.0 + 2.0 * x) * jnp.where(noise, 1.0, 2.0) + i * th[1]
    return cost, (i, x, noise)


def test_shares_are_those_of_enumeration():
    th = jnp.array([0.4, 0.8])
    gradient = jscg.grad_expectation(chain, has_aux=True, estimators=PLAIN)
    gradients = jax.jit(jax.vmap(gradient, (None, 0)), compiler_options=QUICK)
    found, drawn = jax.tree.map(np.asarray, gradients(th, random.split(KEY, 2000)))
    table = {}
    for g, i, x, noise in zip(found, *drawn, strict=True):
        known = table.setdefault((int(i), int(x), int(noise)), g)
        np.testing.assert_allclose(known, g, rtol=1e-5)
    assert len(table) == 12
    # The bits of x are a uniform number u: it is held, while p(x) moves with what i is.
    p = np.asarray(jax.nn.softmax(jnp.array([0.0, 1.0, 0.5]) * th[0]))
    p_x = np.asarray(sigmoid(th[1] * (np.arange(3) - 1.0)))
    cuts = np.sort(np.concatenate([[0], p_x, [1]]))
    middles, widths = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    g = np.array(
        [
            [[table[i, int(u < p_x[i]), noise] for noise in range(2)] for u in middles]
            for i in range(3)
        ]
    )
    laws = [p, widths, np.array([0.7, 0.3])]
    joint = np.einsum("i,u,n->iun", *laws)
    mean = np.einsum("iun,iund->d", joint, g)
    total = np.einsum("iun,iund->", joint, (g - mean) ** 2)

    def left(axis):
        inner = np.expand_dims(np.tensordot(laws[axis], g, (0, axis)), axis)
        return np.einsum("iun,iund->", joint, (g - inner) ** 2) / total

    exact = dict(zip(("i", "x", "noise"), map(left, range(3)), strict=True))
    assert sum(exact.values()) > 1.15  # they interact
    report = report_of(chain, th, KEY, has_aux=True, estimators=PLAIN)
    shares_are(report, exact)
    assert report.variance == pytest.approx(total, rel=0.15)
    assert {d.name: d.verdict for d in report.draws} == {
        "i": "scored",
        "x": "scored",
        "noise": "free",
    }


def interaction(th, key):
    """The gradient is z w, each of which alone explains all of its variance."""
    k1, k2 = random.split(key)
    z = random.normal(k1)
    w = random.normal(k2)
    return th * z * w


def test_shares_sum_to_more_than_one_where_draws_interact():
    shares_are(report_of(interaction, 1.0, KEY), {"z": 1.0, "w": 1.0})


def test_what_an_estimator_draws_for_a_draw_belongs_to_it():
    """Which element is moved decides, and not the sample; there is nothing else."""

    def cost(th, key):
        x = random.bernoulli(key, sigmoid(th), (3,))
        return (100.0 + x @ jnp.array([5.0, 1.0, 0.0])) ** 2

    shares_are(report_of(cost, 0.1, KEY, estimators=est.Coupled()), {"x": 1.0})


# Wherever a draw stands.  Each program is th times a sum of squares 1 (draws `s`) times w.

STEPS = 5


def in_a_scan(key):
    def step(total, k):
        s = random.rademacher(k, (), float)
        return total + s, None

    return lax.scan(step, 0.0, random.split(key, STEPS))[0]


def in_a_map(key):
    def one(k):
        s = random.rademacher(k, (), float)
        return s

    return jnp.sum(jax.vmap(one)(random.split(key, STEPS)))


def in_a_branch(key):
    def yes(k):
        s = random.rademacher(k, (STEPS,), float)
        return jnp.sum(s)

    k1, k2 = random.split(key)
    return lax.cond(random.key_data(k1)[0] >= 0, yes, lambda k: 0.0, k2)


def in_a_checkpoint(key):
    @jax.checkpoint
    def inside(k):
        s = random.rademacher(k, (STEPS,), float)
        return jnp.sum(s)

    return inside(key)


def in_a_while_loop(key):
    def step(state):
        i, total, k = state
        k, use = random.split(k)
        s = random.rademacher(use, (), float)
        return i + 1, total + s, k

    return lax.while_loop(lambda state: state[0] < STEPS, step, (0, 0.0, key))[1]


def in_a_mapped_while_loop(key):
    """Which runs as it is: its keys are exchanged in front of it."""

    def one(k, n):
        def step(state):
            i, total, k = state
            k, use = random.split(k)
            s = random.rademacher(use, (), float)
            return i + 1, total + s, k

        return lax.while_loop(lambda state: state[0] < n, step, (0, 0.0, k))[1]

    return jnp.sum(jax.vmap(one)(random.split(key), jnp.array([2, STEPS - 2])))


def in_a_rule_of_its_own(key):
    @jax.custom_jvp
    def inside(x, k):
        s = random.rademacher(k, (STEPS,), float)
        return x * jnp.sum(s)

    @inside.defjvp
    def rule(primals, tangents):
        out = inside(*primals)
        return out, tangents[0] * out / primals[0]

    return inside(1.0, key)


def of_bits(key):
    s = random.bits(key, (STEPS,))
    return jnp.sum(jnp.where(s % 2 == 0, 1.0, -1.0))


def in_a_function_that_was_jitted(key):
    @jax.jit
    def inside(k):
        s = random.rademacher(k, (STEPS,), float)
        return jnp.sum(s)

    return inside(key)


def in_a_rule_within_a_function_that_was_jitted(key):
    return jax.jit(in_a_rule_of_its_own)(key)


PLACES = [
    in_a_scan,
    in_a_map,
    in_a_branch,
    in_a_checkpoint,
    in_a_while_loop,
    in_a_mapped_while_loop,
    in_a_rule_of_its_own,
    of_bits,
    in_a_function_that_was_jitted,
    in_a_rule_within_a_function_that_was_jitted,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
def test_a_draw_is_drawn_anew_wherever_it_stands(place):
    """E[g^2] = STEPS E[w^2]; with w averaged out STEPS E[w]^2 stays, with s nothing does."""

    def cost(th, key):
        k1, k2 = random.split(key)
        w = random.bernoulli(k1, 0.5) + 1.0
        return th * place(k2) * w

    shares_are(report_of(cost, 1.0, KEY), {"w": 0.25 / 2.5, "s": 1.0})


# What has random bits in common.


def by_comparison(th, key):
    k1, k2 = random.split(key)
    x = random.uniform(k1, (3,)) < sigmoid(th)
    y = random.bernoulli(k2, sigmoid(jnp.sum(x) - 1.0))
    return y * jnp.sum(x * jnp.arange(3.0))


def by_a_family(th, key):
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, sigmoid(th), (3,))
    y = random.bernoulli(k2, sigmoid(jnp.sum(x) - 1.0))
    return y * jnp.sum(x * jnp.arange(3.0))


def test_a_draw_made_of_noise_is_that_noise():
    mended, drawn = (
        report_of(f, 0.3, KEY, n=500, estimators=PLAIN) for f in (by_comparison, by_a_family)
    )
    found = [{d.name: (d.share, d.verdict) for d in r.draws} for r in (mended, drawn)]
    assert found[0].keys() == found[1].keys() == {"x", "y"}
    for name in "xy":
        assert found[0][name][0] == pytest.approx(found[1][name][0], rel=1e-3)
        assert found[0][name][1] == found[1][name][1] == {"x": "scored", "y": "free"}[name]


def test_draws_of_one_key_are_drawn_anew_together():
    def cost(th, key):  # z - w is zero: drawn anew alone, one of them would move the gradient
        k1, k2 = random.split(key)
        z = random.normal(k1)
        w = random.normal(k1)
        v = random.normal(k2)
        return th * (v + 10.0 * (z - w))

    shares_are(report_of(cost, 1.0, KEY), {"z, w": 0.0, "v": 1.0})


def test_branches_may_use_one_key():
    def cost(th, key):
        k1, k2 = random.split(key)

        def yes(k):
            a = random.normal(k)
            return a

        def no(k):
            b = random.normal(k)
            return 2.0 * b

        return th * lax.cond(random.bernoulli(k1), yes, no, k2)

    report = report_of(cost, 1.0, KEY)
    shares_are(report, {"bernoulli_0": 0.1, "a": 0.2, "b": 0.8})


@jscg.sampler(lambda x, rate: x * jnp.log(rate) - rate)
def by_a_loop(key, rate):
    def step(state):
        k, n, time = state
        k, use = random.split(k)
        return k, n + 1, time + random.exponential(use)

    return lax.while_loop(lambda s: s[2] < rate, step, (key, -1, 0.0))[1]


@jscg.sampler(lambda x, p: jnp.where(x, jnp.log(p), jnp.log1p(-p)))
def by_a_callback(key, p):
    def draw(bits, p):
        return np.random.default_rng(np.asarray(bits)).random() < p

    shape = jax.ShapeDtypeStruct((), jnp.bool_)
    return jax.pure_callback(draw, shape, random.key_data(key), p, vmap_method="sequential")


@pytest.mark.parametrize("sampler", [by_a_loop, by_a_callback])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_sampler_of_the_user_and_what_it_is_made_of_are_one(sampler, legacy):
    def cost(th, key):
        k1, k2 = random.split(key)
        x = sampler(k1, th)
        w = random.normal(k2)
        return 1.0 * x + w * th

    key = random.PRNGKey(0) if legacy else KEY
    score = {"sampler": PLAIN}
    report = report_of(cost, 0.5, key, n=1000, estimators=score, key_argnums=1)
    (x,) = (d for d in report.draws if "x" in d.name)
    (w,) = (d for d in report.draws if d.name == "w")
    assert len(report.draws) == 2 and x.verdict == "scored"
    # g = x (x / th - 1) for the loop, x / p for the callback, and w, independent of it.
    g = {
        by_a_loop: lambda x: x * (x / 0.5 - 1.0),
        by_a_callback: lambda x: x / 0.5,
    }[sampler]
    p = {
        by_a_loop: np.exp(-0.5) * np.cumprod([1.0, *(0.5 / np.arange(1, 12))]),
        by_a_callback: np.array([0.5, 0.5]),
    }[sampler]
    k = np.arange(len(p))
    variance = p @ g(k) ** 2 - (p @ g(k)) ** 2
    for d, exact in ((x, variance / (variance + 1)), (w, 1 / (variance + 1))):
        assert abs(d.share - exact) < BOUND * d.standard_error, (d, exact)


def test_what_does_not_depend_on_the_keys_of_the_arguments_has_no_share():
    def cost(th, key):
        fixed = random.normal(random.key(3), (2,))
        z = random.normal(key, (2,))
        return th * jnp.sum(fixed * z)

    report = report_of(cost, 1.0, KEY, n=100)
    assert {d.name: d.share for d in report.draws} == {"z": pytest.approx(1.0, abs=0.5), "fixed": 0}
    assert report.draws[1].note


def test_expectations_inside():
    mean = jscg.expectation(lambda p, key: 3.0 * random.bernoulli(key, p))

    def squared(p, key):
        k1, k2 = random.split(key)
        return mean(p, k1) * mean(p, k2)

    report = report_of(squared, 0.5, KEY, estimators=PLAIN)
    # g = 9 x y (1 / p + 1 / p): of E[Var(xy|y)] / Var(xy) with p = 1/2.
    exact = (0.5 * 0.25) / (0.25 * 0.75)
    assert [d.share for d in report.draws] == [pytest.approx(exact, abs=0.06)] * 2


def test_one_key_for_two_scored_draws_stays_refused():
    def twice(th, key):
        return 1.0 * random.bernoulli(key, th) * random.bernoulli(key, th**2)

    with pytest.raises(jscg.JscgError, match="key in common"):
        report_of(twice, 0.5, KEY)


# Parameters.


def test_signal_and_noise_of_every_leaf():
    def cost(params, sizes, key, power):
        x = random.normal(key, (sizes["n"], 3))
        return jnp.mean((2.0 + x) @ params["w"][0]) ** power + jnp.mean(x) * params["b"]

    params = {"w": (jnp.ones(3),), "b": 0.0}
    report = report_of(cost, params, {"n": 2}, KEY, 1, n=2000)
    assert [p.path for p in report.parameters] == ["params['b']", "params['w'][0]"]
    b, w = report.parameters
    assert not b.distinguishable and b.deviation == pytest.approx(6**-0.5, rel=0.1)
    assert w.distinguishable and w.shape == (3,)
    assert w.deviation == pytest.approx((3 / 2) ** 0.5, rel=0.1)
    exact = 12**0.5 / 1.5**0.5
    assert abs(w.snr - exact) < BOUND * w.standard_error < 0.3
    assert report.draws[0].leaves == (pytest.approx(1, abs=0.2),) * 2
    assert "params['b'] is not distinguishable from zero" in report.recommendation


def test_norms_are_without_bias_and_alarms_are_rare():
    """At little signal in many dimensions, where the norm of a mean is mostly noise."""
    rng = np.random.default_rng(0)
    n, most = 50, 400
    for size, signal in ((1, 0.0), (30, 0.0), (30, 0.2)):
        squares, alarms, within = [], 0, 0
        for _ in range(most):
            g = rng.normal(size=(n, size)) + signal
            kept = _estimates.Tally([jnp.zeros(size)])
            kept.add([jnp.asarray(g, jnp.float32)])
            (row,) = _signal.signals(kept, ["x"])
            squares.append(np.sum(g.mean(0) ** 2) - g.var(0, ddof=1).sum() / n)
            assert row.norm**2 == pytest.approx(max(squares[-1], 0), abs=1e-4)
            alarms += row.distinguishable
            within += abs(row.snr - signal) < 2 * row.standard_error
        assert abs(np.mean(squares) - size * signal**2) < BOUND * np.std(squares) / most**0.5
        if not signal:
            assert alarms / most < 0.1
        else:
            assert alarms / most > 0.9 and within / most > 0.9


def test_ratios_have_the_errors_that_are_stated():
    rng = np.random.default_rng(1)
    z = []
    for _ in range(300):
        common = rng.normal(size=500)
        one, other = common**2, (common + rng.normal(size=500)) ** 2
        found, error = _estimates.ratio(one.mean(), other.mean(), one, other)
        z.append((found - 0.5) / error)
    assert 0.85 < np.std(z) < 1.15 and abs(np.mean(z)) < 0.25


# Alternatives.


def failing(p, key):
    x = random.bernoulli(key, p)
    return (2.0 + x) ** 2


def test_variances_are_compared_with_the_same_keys():
    """Two samples: exact variances with the other as the baseline, and without."""
    p = 0.3
    exact = {}
    for name in ("without", "with"):
        first, second = np.zeros(2)
        for x, y in itertools.product((0, 1), repeat=2):
            score = [(v - p) / (p * (1 - p)) for v in (x, y)]
            cost = [(2.0 + v) ** 2 for v in (x, y)]
            if name == "with":
                cost = [cost[0] - cost[1], cost[1] - cost[0]]
            g = 0.5 * (score[0] * cost[0] + score[1] * cost[1])
            chance = np.prod([p if v else 1 - p for v in (x, y)])
            first, second = first + chance * g, second + chance * g**2
        assert first == pytest.approx(5.0)
        exact[name] = second - first**2
    report = report_of(
        failing,
        p,
        KEY,
        num_samples=2,
        estimators=PLAIN,
        alternatives=[est.ScoreFunction(), est.Enumerate(), est.Pathwise(), PLAIN],
    )
    found = {a.change: a for a in report.alternatives}
    loo = found["jscg.estimators.ScoreFunction()"]
    ratio = exact["with"] / exact["without"]
    assert abs(loo.variance - ratio) < BOUND * loo.standard_error < 0.2 * ratio
    assert found["jscg.estimators.Enumerate()"].variance == 0
    more = found["num_samples=8"]
    assert abs(more.variance - 0.25) < BOUND * more.standard_error < 0.1
    assert 3 < more.work < 5 and not more.better
    assert {r.change.split(".")[-1]: r.reason for r in report.refused} == {
        "Pathwise()": "a discrete draw has no derivative with respect to its parameters",
        "ScoreFunction(baseline=None)": "it is what is done at present",
    }


def test_the_work_of_every_step_is_counted():
    def cost(th, key, steps):
        def step(total, k):
            x = random.bernoulli(k, sigmoid(th))
            return total + x, None

        return lax.scan(step, 0.0, random.split(key, steps))[0]

    def work(steps):
        arguments = _estimates.Arguments((0.3, KEY, steps), options_of(0, False, 1, None, None))
        gradient = lambda args, _: jscg.grad_expectation(cost)(*args)  # noqa: E731
        return _estimates.once(arguments, gradient).work

    assert work(100) == pytest.approx(10 * work(10), rel=0.2)


def test_a_while_loop_counts_as_some_steps():
    def loop(x):
        return lax.while_loop(lambda x: x[0] < 1, lambda x: jnp.sin(x) * 2, x)

    x = jnp.ones(50)
    step = work(jax.make_jaxpr(lambda x: (x[0] < 1, jnp.sin(x) * 2))(x).jaxpr)
    assert work(jax.make_jaxpr(loop)(x).jaxpr) == pytest.approx(WHILE_STEPS * step, rel=0.1)


def pair(p, key):
    k1, k2 = random.split(key)
    x = random.bernoulli(k1, p[0], (2,))
    y = random.bernoulli(k2, p[1])
    return jnp.prod(1.0 + x) * (2.0 + y)


def test_what_is_recommended_can_be_pasted_and_is_better():
    p = jnp.array([0.3, 0.6])
    chosen = {"y": PLAIN, "x": PLAIN}
    report = report_of(
        pair, p, KEY, n=1000, estimators=chosen, alternatives=[est.LeaveOneOut(samples=2)]
    )
    assert {a.draw for a in report.alternatives} == {"x", "y", "all draws", ""}
    (best,) = [a for a in report.alternatives if report.code.endswith(f" {a.code})")]
    assert best.better and "worth it" in report.recommendation
    gradient = eval(report.code, {"jscg": jscg, "pair": pair})
    found = jax.jit(jax.vmap(gradient, (None, 0)), compiler_options=QUICK)(
        p, random.split(KEY, 4000)
    )
    assert np.var(found, 0).sum() / report.variance == pytest.approx(best.variance, rel=0.25)


@pytest.mark.parametrize(
    ("variance", "error", "work", "said"),
    [
        (0.271, 0.0227, 3.04, ": not clearly worth it."),  # a product of 0.825 +- 0.14
        (0.271, 0.0227, 3.9, ": not clearly worth it."),
        (0.271, 0.0227, 6.0, ": not worth it."),
        (0.271, 0.0227, 2.0, ": worth it."),
    ],
)
def test_verdicts_are_those_of_the_table(small, variance, error, work, said):
    other = _alternatives.Alternative("", "num_samples=4", "num_samples=4", variance, error, work)
    asked = _choices.Asked(failing, 0, False, None)
    measured = types.SimpleNamespace(variance=1.0, count=50)
    words, _ = _advice.advice(asked, (), (), [other], measured)
    assert said in words
    shown = str(dataclasses.replace(small, alternatives=(other,), recommendation=words))
    assert (f"{other.product:.3g}  better" in shown) == (said == ": worth it.")
    assert "a product below 1" in shown and "below 0.9" in shown


def test_by_default_all_that_is_unbiased_is_tried(monkeypatch):
    # Which, and not what comes of it: to compile them all takes its time.
    monkeypatch.setattr(_alternatives.Trials, "_run", lambda trials, *_: trials.base)
    report = report_of(failing, 0.3, KEY, n=20, estimators=PLAIN, alternatives=None)
    known = {n for n in est.__all__ if isinstance(getattr(est, n), type)}
    known = {n for n in known if issubclass(getattr(est, n), est.Estimator)}
    tried = {r.change for r in [*report.alternatives, *report.refused]} - {"num_samples=4"}
    assert {t.split(".")[2].split("(")[0] for t in tried} == known - {
        "Estimator",
        "GumbelSoftmax",
        "StraightThrough",
    }
    assert sum("ScoreFunction" in t for t in tried) == 3


@pytest.fixture(scope="module")
def small():
    tried = [est.Enumerate(), est.Pathwise()]
    return report_of(failing, 0.3, KEY, n=50, estimators=PLAIN, alternatives=tried)


def test_it_prints_within_the_width_of_a_page(small):
    (draw,) = small.draws
    long = dataclasses.replace(
        small,
        draws=(dataclasses.replace(draw, name="a" * 50, where="b" * 80 + ".py:1:2"),) * 30,
        alternatives=tuple(
            dataclasses.replace(small.alternatives[0], change="c" * 60, draw="d" * 60, variance=i)
            for i in range(30)
        ),
        code="e, " * 99,
    )
    for shown in (small, long):
        assert max(map(len, str(shown).splitlines())) <= 100
    assert str(long).count("c...") == str(long).count("a...") == 12 and "18 more rows" in str(long)
    alike = dataclasses.replace(long, alternatives=(long.alternatives[0],) * 3)
    assert str(alike).count("c...") == 1 and alike.text(full=True).count("c" * 60) == 3
    assert "not measured: 1" in str(small) and small.refused[0].reason not in str(small)
    assert long.text(full=True).count("c" * 60) == 30
    assert small.refused[0].reason in long.text(full=True)


def test_where_nothing_is_better_it_says_so():
    def smooth(th, key):
        z = random.normal(key)
        return (th + z) ** 2

    report = jscg.variance_report(smooth, progress=False, num_estimates=500)(1.0, KEY)
    assert "None of the alternatives" in report.recommendation and not report.code
    assert "It is not scored" in report.recommendation
    assert [a.change for a in report.alternatives] == ["num_samples=4"]


def test_without_variance_there_is_nothing_to_lower():
    report = jscg.variance_report(failing, progress=False, num_estimates=10)(0.5, KEY)
    assert report.variance == 0 and [d.share for d in report.draws] == [0.0]
    assert "no variance" in report.recommendation and report.parameters[0].snr == np.inf


def bound_of_a_gamma(log_shape, key):
    """At the posterior, gamma(2) / 2, what z influences comes to -1/2 whatever it is."""
    shape = 2 * jnp.exp(log_shape)
    z = random.gamma(key, shape) / 2
    log_q = shape * jnp.log(2.0) + (shape - 1) * jnp.log(z) - 2 * z - gammaln(shape)
    return log_q - (jnp.log(z) - 2 * z) - 0.5 * (z / z)


def test_a_draw_with_an_implicit_derivative_could_be_scored():
    tried = [PLAIN, est.Coupled()]
    report = report_of(bound_of_a_gamma, 0.0, KEY, n=200, alternatives=tried)
    (found,) = [a for a in report.alternatives if a.draw]
    # A cost of c adds c times the score to the score, which the pathwise gradient is.
    np.testing.assert_allclose(found.variance, 0.25, rtol=1e-3)
    assert report.code.endswith(f" {found.code})")
    normal = report_of(lambda m, k: (m + random.normal(k)) ** 2, 0.3, KEY, n=20, alternatives=tried)
    assert not [a for a in [*normal.alternatives, *normal.refused] if a.draw]


def test_alternatives_that_make_no_sense():
    report = report_of(
        failing, 0.3, KEY, n=10, estimators=PLAIN, alternatives=[est.GumbelSoftmax()]
    )
    assert {r.reason for r in report.refused} == {"it is biased"}
    with pytest.raises(jscg.JscgError, match="list of estimators"):
        report_of(failing, 0.3, KEY, n=10, estimators=PLAIN, alternatives=["REBAR"])


# As a function.


def test_several_keys_static_arguments_aux_and_samples():
    def cost(params, name, keys, key, shift):
        x = random.bernoulli(keys["a"], sigmoid(params[name]))
        y = random.normal(key)
        return x * (1.0 + y) * shift + params["v"], {"x": x}

    params = {"u": jnp.float32(0.2), "v": jnp.float32(1.0)}
    keys = {"a": random.key(5)}
    for samples in (1, 3):
        report = report_of(
            cost, params, "u", keys, KEY, 2.0, has_aux=True, num_samples=samples, estimators=PLAIN
        )
        assert report.num_samples == samples
        p = float(sigmoid(0.2))
        # g = 2 x (1 + y) (1 - p)
        spread = 4 * (1 - p) ** 2 * (2 * p - p**2)
        assert report.variance == pytest.approx(spread / samples, rel=0.15)
        found = {d.name: d.share for d in report.draws}
        assert found["x"] == pytest.approx(2 * (1 - p) / (2 - p), abs=0.1)
        assert found["y"] == pytest.approx(1 / (2 - p), abs=0.1)


def test_where_nothing_is_drawn_anew_the_gradient_is_what_it_was():
    p = jnp.array([0.3, 0.6])
    report = report_of(pair, p, KEY, n=200)
    keys = random.split(random.split(KEY, 1)[0], 200)
    gradients = jax.jit(jax.vmap(jscg.grad_expectation(pair), (None, 0)), compiler_options=QUICK)
    found = np.asarray(gradients(p, keys))
    assert report.variance == pytest.approx(found.var(0, ddof=1).sum(), rel=1e-4)
    assert report.parameters[0].deviation == pytest.approx(report.variance**0.5)


def test_chunks_do_not_change_what_is_estimated(monkeypatch):
    whole = report_of(interaction, 1.0, KEY, n=200)
    monkeypatch.setattr(_estimates, "_NUMBERS", 100)
    few = report_of(interaction, 1.0, KEY, n=200)
    assert whole.num_estimates == 200 <= few.num_estimates < 250
    assert few.variance == pytest.approx(whole.variance, rel=0.5) and few.variance != whole.variance


def test_arguments_are_checked():
    with pytest.raises(jscg.JscgError, match="at least 2"):
        jscg.variance_report(failing, num_estimates=1)
    with pytest.raises(TypeError, match="must be an integer"):
        jscg.variance_report(failing, num_estimates=10.0)
    with pytest.raises(ValueError, match="needs a random key"):
        report_of(failing, 0.5, random.PRNGKey(0))
    with pytest.raises(jscg.JscgError, match="cannot be called under jax.jit"):
        jax.jit(lambda p: report_of(failing, p, KEY).variance)(0.5)


def test_nothing_that_was_traced_is_left_behind():
    with jax.checking_leaks():
        report_of(lambda th, key: th * in_a_scan(key), 0.3, KEY, n=2)


# What is shown.


class Bar:
    """Of tqdm, as far as it is used."""

    made = []

    def __init__(self, total, **options):
        self.total, self.n, self.options, self.closed = total, 0, options, False
        Bar.made.append(self)

    def update(self, n):
        self.n += n

    def close(self):
        self.closed = True


def test_progress(monkeypatch):
    module = types.ModuleType("tqdm")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", module)
    Bar.made.clear()
    # Of these one is the present choice, one another program, one cannot be used.
    tried = [PLAIN, est.Enumerate(), est.Pathwise()]
    report_of(failing, 0.3, KEY, n=300, estimators=PLAIN, alternatives=tried, progress=True)
    report_of(interaction, 1.0, KEY, n=4, progress=None)
    report_of(interaction, 1.0, KEY, n=4, progress=False)
    assert [bar.options["delay"] for bar in Bar.made] == [0, 2]
    assert [bar.total for bar in Bar.made] == [2 * (1 + 1 + 4), 1 + 2]
    assert all(bar.closed and bar.n == bar.total for bar in Bar.made)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    report_of(interaction, 1.0, KEY, n=4, progress=None)
    with pytest.raises(ImportError, match=r"jscg\[report\]"):
        report_of(interaction, 1.0, KEY, n=4, progress=True)


def test_plot(monkeypatch, small):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = small.plot()
    assert [len(a.patches) for a in axes] == [1, 1, 2]
    widths = [bar.get_width() for bar in axes[0].patches]
    assert widths == [d.share for d in small.draws]
    assert [t.get_text() for t in axes[1].get_yticklabels()] == ["p"]
    assert pyplot.get_fignums()  # so that notebooks show it
    twice = dataclasses.replace(small, alternatives=small.alternatives[:1] * 2)
    assert len(twice.plot()[2].patches) == 1  # as in the table
    pyplot.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"jscg\[report\]"):
        small.plot()
