"""Variational bounds: values, gradients and variances against enumeration and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.stats import norm
from oracle import (
    BOUND,
    Case,
    assert_case,
    assert_small,
    ber,
    grid,
    samples,
    total,
    truth,
    variance,
    z_of,
)

import jscg
from jscg.bounds import dreg, log_mean_exp, sticking_the_landing, vimco

pytestmark = pytest.mark.slow

KEY = random.key(20160622)
NO_BASELINE = jscg.estimators.ScoreFunction(baseline=None)


# Discrete latents: two units, three particles.


def log_bernoulli(logits, h):
    return jnp.sum(jnp.where(h == 1, log_sigmoid(logits), log_sigmoid(-logits)), -1)


def log_joint(th, h):
    """Of a prior and of what is observed; th[:2] is the posterior's."""
    return log_bernoulli(th[2:4], h) + log_sigmoid(h[..., 0] * (1.0 + th[4] * h[..., 1]) - 0.5)


def log_weight(th, h):
    return log_joint(th, h) - log_bernoulli(th[:2], h)


def one_layer(th, key, marked=True):
    """Of a batch of eight examples."""
    h = random.bernoulli(key, sigmoid(th[:2]), (3, 8, 2))
    if marked:
        h = jscg.baseline(h, -vimco(log_weight(th, h)))
    return -jnp.mean(log_mean_exp(log_weight(th, h)))


def examples(th, key):
    """Of two examples, with vmap over examples and over particles."""

    def example(key):
        draw = jax.vmap(lambda k: random.bernoulli(k, sigmoid(th[:2])))
        weigh = jax.vmap(log_weight, (None, 0))
        h = draw(random.split(key, 3))
        h = jscg.baseline(h, -vimco(weigh(th, h)))
        return log_mean_exp(weigh(th, h))

    return -jnp.mean(jax.vmap(example)(random.split(key, 2)))


def log_weight_of_layers(th, h1, h2):
    log_q = log_bernoulli(th[:1], h1) + log_bernoulli(th[1:2] * h1 - 0.5, h2)
    return log_joint(th, jnp.concatenate([h1, h2], -1)) - log_q


def two_layers(th, key):
    """The second unit depends on the first: one baseline for both."""
    keys = random.split(key)
    h1 = random.bernoulli(keys[0], sigmoid(th[:1]), (3, 1))
    h2 = random.bernoulli(keys[1], sigmoid(th[1:2] * h1 - 0.5))
    b = -vimco(log_weight_of_layers(th, h1, h2))
    h1, h2 = jscg.baseline(h1, b), jscg.baseline(h2, b)
    return -log_mean_exp(log_weight_of_layers(th, h1, h2))


def exact(th):
    def term(h):
        h = h.reshape(3, 2)
        return -ber(sigmoid(th[:2]), h) * log_mean_exp(log_weight(th, h))

    return total(term, grid(*[2] * 6))


def exact_of_layers(th):
    def term(h):
        h1, h2 = h[:3, None], h[3:, None]
        p = ber(sigmoid(th[0]), h1) * ber(sigmoid(th[1] * h1 - 0.5), h2)
        return -p * log_mean_exp(log_weight_of_layers(th, h1, h2))

    return total(term, grid(*[2] * 6))


TH = (1.0, -1.5, -0.5, 1.0, -2.0)
CASES = [
    Case("examples", examples, exact, TH, n=40_000, order=1, blind=(2, 3, 4)),
    Case("two_layers", two_layers, exact_of_layers, TH, n=40_000, blind=(2, 3, 4)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_vimco_is_unbiased_to_second_order(case):
    assert_case(case, KEY, {"default": None})


def test_variance_of_vimco():
    """Of the posterior's parameters; by default a draw has that baseline without being told."""
    plain = lambda th, k: one_layer(th, k, marked=False)  # noqa: E731
    off = jscg.estimators.Auto(particles=False)
    gradients = {
        "vimco": jscg.grad_expectation(one_layer),
        "none": jscg.grad_expectation(plain, estimators=NO_BASELINE),
        "any order": jax.grad(jscg.surrogate(plain, estimators=off)),
        "first order": jscg.grad_expectation(plain, estimators=off),
        "default": jscg.grad_expectation(plain),
    }
    run = lambda k: {name: g(jnp.array(TH), k)[:2] for name, g in gradients.items()}  # noqa: E731
    found = variance(run, KEY, 10_000)
    assert np.all(found["vimco"] < 0.1 * found["none"])
    assert np.all(found["vimco"] < 0.5 * found["any order"])
    assert np.all(found["vimco"] < 0.8 * found["first order"])
    np.testing.assert_allclose(found["default"], found["vimco"], rtol=1e-3)


# The baseline itself.


def by_hand(log_weights):
    """Of particles along the first axis, in double precision, one after the other."""
    out = np.zeros(log_weights.shape)
    for k in range(len(log_weights)):
        others = np.delete(np.asarray(log_weights, np.float64), k, 0)
        every = np.concatenate([others, others.mean(0, keepdims=True)])
        out[k] = np.logaddexp.reduce(every, 0) - np.log(len(log_weights))
    return out


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e8])
@pytest.mark.parametrize("count", [2, 7])
def test_vimco_is_the_formula(count, scale):
    log_weights = scale * random.normal(KEY, (count, 2, 3)) - 3.0 * scale
    np.testing.assert_allclose(vimco(log_weights), by_hand(log_weights), rtol=1e-6)
    turned = jnp.moveaxis(log_weights, 0, 1)
    again = jnp.moveaxis(jax.jit(vimco, static_argnums=1)(turned, 1), 1, 0)
    np.testing.assert_allclose(again, by_hand(log_weights), rtol=1e-6)


def test_a_baseline_of_vimco_is_a_number_that_ignores_its_own_particle():
    log_weights = random.normal(KEY, (5,))
    assert not np.any(jax.grad(lambda x: vimco(x)[0])(log_weights))
    for value in (-jnp.inf, -1e30, 1e30, jnp.nan):
        assert vimco(log_weights.at[2].set(value))[2] == vimco(log_weights)[2]


def test_vimco_where_weights_are_zero():
    never = -jnp.inf
    found = vimco(jnp.array([[0.0, never], [never, never], [1.0, never]]))
    expected = [[1.0 - np.log(3), 0], [np.logaddexp(1.0, np.logaddexp(0.5, 0)) - np.log(3), 0]]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-6)
    assert np.all(np.isfinite(found))


# A Gaussian latent: with z from N(prior, 1) and x from N(z, 1), the posterior is
# N((prior + x) / 2, 1 / 2).

X = 1.3
AT = {"mean": jnp.float32(0.4), "log_scale": jnp.float32(-0.2), "prior": jnp.float32(0.5)}
POSTERIOR = AT | {"mean": jnp.float32(0.9), "log_scale": jnp.float32(-np.log(2) / 2)}


def latents(p, noise):
    return p["mean"] + jnp.exp(p["log_scale"]) * noise


def weigher(p):
    """`log_weight(q, z)` with the parameters of the model of p."""

    def log_weight(q, z):
        log_q = norm.logpdf(z, q["mean"], jnp.exp(q["log_scale"]))
        return norm.logpdf(z, p["prior"]) + norm.logpdf(X, z) - log_q

    return log_weight


def elbo(p):
    """The closed form."""
    variance = jnp.exp(2 * p["log_scale"])
    squares = (p["mean"] - p["prior"]) ** 2 + (X - p["mean"]) ** 2 + 2 * variance
    return 0.5 - 0.5 * jnp.log(2 * jnp.pi) - squares / 2 + p["log_scale"]


def quadrature(count):
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def two_of(log_weights, chances):
    """The exact bound of two particles, from all that one may be; summed over examples."""
    both = log_mean_exp(jnp.stack(jnp.broadcast_arrays(log_weights[:, None], log_weights)))
    return jnp.sum(jnp.einsum("i,j,ij...->...", chances, chances, both))


def bound_of_two(p):
    nodes, weights = quadrature(40)
    return two_of(weigher(p)(p, latents(p, nodes)), weights)


def exact_of(fun, p):
    with jax.enable_x64(True):
        exact = jax.jit(jax.value_and_grad(fun))(jax.tree.map(lambda x: jnp.float64(x), p))
        return jax.tree.map(np.asarray, exact)


def bound(kind, count=2):
    """The program: kind is "plain", "stl" or "dreg"."""
    helpers = {"stl": sticking_the_landing, "dreg": dreg, "plain": lambda f, q, z: f(q, z)}

    def program(p, key):
        z = latents(p, random.normal(key, (count,)))
        return log_mean_exp(helpers[kind](weigher(p), p, z))

    return program


def mean_bound(kind):
    def program(p, key):
        return jnp.mean(jax.vmap(bound(kind, 1), (None, 0))(p, random.split(key, 3)))

    return program


@pytest.mark.parametrize("kind", ["plain", "stl", "dreg"])
def test_evidence_lower_bound(kind):
    assert_exact(mean_bound(kind), elbo)


@pytest.mark.parametrize("kind", ["plain", "dreg"])
def test_two_particles(kind):
    assert_exact(bound(kind), bound_of_two)


def assert_exact(program, exact):
    found = samples(lambda k: jscg.value_and_grad_expectation(program)(AT, k), KEY, 40_000)
    z = jax.tree.map(z_of, found, exact_of(exact, AT))
    assert_small(jax.tree.leaves(z))


def test_sticking_the_landing_of_several_particles_is_biased():
    found = samples(lambda k: jscg.grad_expectation(bound("stl"))(AT, k), KEY, 40_000)
    _, exact = exact_of(bound_of_two, AT)
    assert abs(z_of(found["log_scale"], exact["log_scale"])) > 10
    assert abs(z_of(found["prior"], exact["prior"])) < BOUND


@pytest.mark.parametrize("helper", ["stl", "dreg"])
def test_no_variance_at_the_posterior(helper):
    programs = [mean_bound("plain"), mean_bound("stl") if helper == "stl" else bound("dreg", 16)]
    run = lambda k: [jscg.value_and_grad_expectation(f)(POSTERIOR, k) for f in programs]  # noqa: E731
    (_, plain), (value, found) = samples(run, KEY, 500)
    for name in ("mean", "log_scale"):
        assert np.all(abs(found[name]) < 1e-5) and plain[name].std() > 0.3
    evidence = float(norm.logpdf(X, 0.5, np.sqrt(2)))
    np.testing.assert_allclose(value, evidence, rtol=1e-5)
    assert_small(z_of(found["prior"], (X - 0.5) / 2))


def test_dreg_is_the_formula():
    """The value and the gradient of the model unchanged; squared weights through the path."""
    run = [jax.jit(jscg.value_and_grad_expectation(bound(kind, 5))) for kind in ("plain", "dreg")]
    (value, plain), (same, found) = (f(AT, KEY) for f in run)
    assert value == same
    noise = random.normal(KEY, (5,))
    z = latents(AT, noise)
    weights = jax.nn.softmax(weigher(AT)(AT, z))
    along = weights**2 * jax.vmap(jax.grad(lambda z: weigher(AT)(AT, z)))(z)
    by_scale = jnp.sum(along * jnp.exp(AT["log_scale"]) * noise)
    expected = {"mean": jnp.sum(along), "log_scale": by_scale, "prior": plain["prior"]}
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_signal_to_noise_ratio_with_many_particles():
    """Rainforth et al. (2018): that of the plain gradient falls as 1 / sqrt(K)."""

    def ratio(kind, count):
        g = samples(lambda k: jscg.grad_expectation(bound(kind, count))(AT, k)["mean"], KEY, 20_000)
        return abs(g.mean()) / g.std()

    plain, doubly = ([ratio(kind, count) for count in (4, 64)] for kind in ("plain", "dreg"))
    assert plain[1] < 0.5 * plain[0]
    assert doubly[1] > 2.0 * doubly[0]


# Several latents.


def log_weight_of_hierarchy(th, q, z):
    """In the posterior and in the prior the second latent depends on the first; two examples."""
    z1, z2 = z
    log_q = norm.logpdf(z1, q[0], 0.8) + norm.logpdf(z2, q[1] * z1, 0.9)
    log_p = norm.logpdf(z1) + norm.logpdf(z2, th[2] * z1) + norm.logpdf(jnp.array([X, -X]), z2)
    return log_p - log_q


def latents_of_hierarchy(th, noise1, noise2):
    z1 = th[0] + 0.8 * noise1
    return z1, th[1] * z1 + 0.9 * noise2


def hierarchy(th, key):
    z = latents_of_hierarchy(th, *random.normal(key, (2, 2, 2)))
    log_weights = dreg(lambda q, z: log_weight_of_hierarchy(th, q, z), th[:2], z)
    return -jnp.sum(log_mean_exp(log_weights))


def exact_of_hierarchy(th):
    nodes, weights = quadrature(16)
    noise = [n[..., None] for n in jnp.meshgrid(nodes, nodes)]
    log_weights = log_weight_of_hierarchy(th, th[:2], latents_of_hierarchy(th, *noise))
    return -two_of(log_weights.reshape(-1, 2), np.outer(weights, weights).ravel())


def log_weight_of_mixture(th, q, h, z):
    """h is Bernoulli, z normal with a mean that depends on h."""
    log_q = log_bernoulli(th[:1], h[..., None]) + norm.logpdf(z, q[0] + q[1] * h, 0.8)
    log_p = log_bernoulli(th[3:], h[..., None]) + norm.logpdf(z) + norm.logpdf(X, z * (1 + h))
    return log_p - log_q


def mixture(th, key, batch=()):
    """VIMCO for the discrete latent, and the path of the other."""
    k1, k2 = random.split(key)
    h = random.bernoulli(k1, sigmoid(th[0]), (2, *batch))
    z = th[1] + th[2] * h + 0.8 * random.normal(k2, (2, *batch))
    h = jscg.baseline(h, -vimco(log_weight_of_mixture(th, th[1:3], h, z)))
    log_weights = dreg(lambda q, z: log_weight_of_mixture(th, q, h, z), th[1:3], z)
    return -jnp.mean(log_mean_exp(log_weights))


def exact_of_mixture(th):
    nodes, weights = quadrature(24)
    h = jnp.arange(2.0)[:, None]
    log_weights = log_weight_of_mixture(th, th[1:3], h, th[1] + th[2] * h + 0.8 * nodes)
    chances = jnp.outer(jnp.array([sigmoid(-th[0]), sigmoid(th[0])]), weights)
    return -two_of(log_weights.ravel(), chances.ravel())


HIERARCHY = Case("hierarchy", hierarchy, exact_of_hierarchy, (0.4, -0.7, 0.5), 40_000, 1)
MIXTURE = Case("mixture", mixture, exact_of_mixture, (0.6, 0.3, 0.5, -0.4), 40_000, 1)


@pytest.mark.parametrize("case", [HIERARCHY, MIXTURE], ids=str)
def test_several_latents(case):
    """One after the other; or a discrete and a continuous one."""
    _, exact, _ = truth(case)
    gradient = jscg.grad_expectation(case.fun)
    assert_small(z_of(samples(lambda k: gradient(case.vector(), k), KEY, case.n), exact))


def test_examples_of_a_batch_stay_apart():
    """Behind `dreg` the score of an example still multiplies its own cost alone."""
    gradient = jax.grad(jscg.surrogate(mixture))
    one, many = (
        variance(lambda k, b=b: gradient(MIXTURE.vector(), k, b), KEY, 5000) for b in ((), (16,))
    )
    np.testing.assert_allclose(16 * many, one, rtol=0.2)


# Refused.


@pytest.mark.parametrize("helper", [sticking_the_landing, dreg])
def test_second_derivatives_are_refused(helper):
    """Of the posterior's parameters, of the model's, and mixed."""

    def program(q, prior, key):
        p = {"mean": q, "log_scale": 0.0, "prior": prior}
        z = latents(p, random.normal(key, (3,)))
        return jnp.mean(helper(weigher(p), p, z))

    surrogate = jscg.surrogate(program, (0, 1))
    for i in (0, 1):
        for j in (0, 1):
            with pytest.raises(jscg.JscgError, match="sticking_the_landing"):
                jax.eval_shape(jax.grad(jax.grad(surrogate, i), j), 0.3, 0.2, KEY)


def jumps(q, key):
    z = q + random.normal(key, (3,))
    log_weights = dreg(lambda q, z: norm.logpdf(z) - norm.logpdf(z, q), q, z)
    return log_mean_exp(log_weights) + jnp.mean(z > 1)


def test_a_latent_that_is_scored_is_refused():
    with pytest.raises(jscg.JscgError, match=r"test_variational_bounds.py.*with its density"):
        jscg.grad_expectation(jumps)(0.3, KEY)


def of_bits(q, key):
    """Floats, but drawn as bits."""
    h = random.bernoulli(key, sigmoid(q), (4,)) * 1.0
    return log_mean_exp(dreg(lambda q, h: -log_bernoulli(jnp.array([q]), h[:, None]), q, h))


def behind_bits(q, key, drawn=None, given=lambda q: q):
    """Normal, with a mean that a bit decides."""
    k1, k2 = random.split(key)
    bits = random.bernoulli(k1, sigmoid(q[0]), (2,)) if drawn is None else drawn(q, k1)
    z = jnp.where(bits, q[1], -1.0) + 0.5 * random.normal(k2, (2,))

    def log_weight(held, z):
        return norm.logpdf(z) - norm.logpdf(z, jnp.where(bits, held[-1], -1.0), 0.5)

    return log_mean_exp(dreg(log_weight, given(q), z))


def in_a_loop(q, key):
    def step(total, key):
        bit = random.bernoulli(key, sigmoid(q[0]))
        return total + bit, bit

    return lax.scan(step, 0, random.split(key, 2))[1]


SHARED = {
    "the latents themselves": (of_bits, 0.3),
    "bits before them": (behind_bits, jnp.array([0.3, 0.4])),
    "in a loop": (lambda q, k: behind_bits(q, k, in_a_loop), jnp.array([0.3, 0.4])),
    "computed again": (
        lambda q, k: behind_bits(q, k, None, lambda q: jnp.tanh(q)[1:] + q[:1]),
        jnp.array([0.3, 0.4]),
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_draws_that_share_parameters_with_what_dreg_holds_are_refused(name):
    fun, q = SHARED[name]
    with pytest.raises(jscg.JscgError, match="its law depends on parameters that the q of"):
        jscg.grad_expectation(fun)(q, KEY)


def test_parts_of_one_array_are_told_apart():
    gradient = jscg.grad_expectation(lambda q, k: behind_bits(q, k, None, lambda q: q[1:]))
    assert np.all(np.isfinite(gradient(jnp.array([0.3, 0.4]), KEY)))


def test_arguments():
    flat = lambda q, z: jnp.zeros(3)  # noqa: E731
    with pytest.raises(jscg.JscgError, match="two particles or more"):
        vimco(jnp.zeros((1, 4)))
    with pytest.raises(jscg.JscgError, match="no particles along axis 2"):
        log_mean_exp(jnp.zeros((3, 4)), 2)
    with pytest.raises(jscg.JscgError, match="must be a float array"):
        log_mean_exp(jnp.zeros(3, int))
    with pytest.raises(jscg.JscgError, match="a discrete draw has no gradient"):
        dreg(flat, 0.0, {"h": jnp.zeros(3, bool)})
    with pytest.raises(jscg.JscgError, match=r"z of shape \(4, 3\)"):
        dreg(flat, 0.0, jnp.zeros((4, 3)))
