"""The gold set: small programs whose right treatment is known from the definitions.

Each is `fun(params, key)`; those that can be estimated come with their exact gradient. Verdicts:

* `path`: continuous where the noise moves it, so that differentiating through the sample is right;
* `scored`: a discrete draw with active parameters;
* `mended`: jumps, but a draw with a known law can be put in the place of the jump;
* `refused`: a gradient would be biased, and must not be returned;
* `free`: no gradient has to go through what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats as st
from jax import lax, random
from jax.nn import sigmoid

import jscg

GOLD: list[Gold] = []
LAWS = {
    random.normal: st.norm,
    random.uniform: st.uniform,
    random.logistic: st.logistic,
    random.gumbel: st.gumbel_r,
    random.exponential: st.expon,
    random.laplace: st.laplace,
    random.cauchy: st.cauchy,
}


@dataclass(frozen=True)
class Gold:
    """One program: its verdict, and its exact gradient unless it is refused."""

    name: str
    verdict: str
    fun: Callable
    exact: Callable | None
    params: tuple[float, ...] = (0.3, 0.7)

    def __str__(self) -> str:
        return f"{self.verdict}-{self.name}"


def by_quantiles(value: Callable, law, points: int = 1_000_000, step: float = 0.02) -> Callable:
    """The gradient of E[value(params, z)] by the midpoint rule over quantiles of one noise z."""
    z = jnp.asarray(law.ppf((np.arange(points) + 0.5) / points), jnp.float32)
    mean = jax.jit(jax.vmap(value, (None, 0)))

    def gradient(params: np.ndarray) -> np.ndarray:
        out = []
        for i in range(len(params)):
            at = [np.asarray(mean(params + s * step * np.eye(len(params))[i], z)) for s in (1, -1)]
            out.append((at[0].astype(np.float64) - at[1]).mean() / (2 * step))
        return np.array(out)

    return gradient


def noise(verdict: str, sampler: Callable, params=(0.3, 0.7)):
    """Adds `value(params, z)` with z one number drawn by a sampler of parameter-free noise."""

    def add(value: Callable) -> Callable:
        def fun(params, key):
            return value(params, sampler(key))

        exact = None if verdict == "refused" else by_quantiles(value, LAWS[sampler])
        GOLD.append(Gold(value.__name__, verdict, fun, exact, params))
        return value

    return add


def drawn(verdict: str, exact: Callable | None = None, params=(0.3, 0.7)):
    """Adds `fun(params, key)`, with its expectation as a function of the parameters."""

    def add(fun: Callable) -> Callable:
        gradient = None if exact is None else lambda p: np.asarray(jax.grad(exact)(jnp.asarray(p)))
        GOLD.append(Gold(fun.__name__, verdict, fun, gradient, params))
        return fun

    return add


def affine(th, z):
    return th[0] + th[1] * z


def of_affine_noise(verdict: str, name: str, value: Callable) -> None:
    """Adds `value(x, params)` of a normal x with both parameters."""

    def program(th, z):
        return value(affine(th, z), th)

    program.__name__ = name
    noise(verdict, random.normal)(program)


# Kinks and smooth functions: the path is right -------------------------------------------------

SMOOTH = {
    "square": lambda x, th: x**2,
    "relu": lambda x, th: jax.nn.relu(x),
    "leaky_relu": lambda x, th: jax.nn.leaky_relu(x),
    "prelu": lambda x, th: jnp.where(x > 0, x, th[0] * x),
    "elu": lambda x, th: jax.nn.elu(x),
    "selu": lambda x, th: jax.nn.selu(x),
    "celu": lambda x, th: jax.nn.celu(x),
    "gelu": lambda x, th: jax.nn.gelu(x),
    "silu": lambda x, th: jax.nn.silu(x),
    "softplus": lambda x, th: jax.nn.softplus(x),
    "relu6": lambda x, th: jax.nn.relu6(4 * x),
    "hard_tanh": lambda x, th: jax.nn.hard_tanh(x),
    "hard_swish": lambda x, th: jax.nn.hard_swish(5 * x),
    "absolute": lambda x, th: jnp.abs(x),
    "clip": lambda x, th: jnp.clip(x, -0.5, 0.5),
    "maximum": lambda x, th: jnp.maximum(x, th[1]),
    "minimum": lambda x, th: jnp.minimum(x, x**2),
    "where": lambda x, th: jnp.where(x > 0, x, 0.1 * x),
    "where_negated": lambda x, th: jnp.where(~(x > 0), 0.1 * x, x),
    "where_both": lambda x, th: jnp.where((x > -1) & (x < 1), x, jnp.clip(x, -1, 1)),
    "huber": lambda x, th: jnp.where(jnp.abs(x) <= 1, 0.5 * x**2, jnp.abs(x) - 0.5),
    "hinge_at_a_parameter": lambda x, th: jnp.where(x > th[0], (x - th[0]) * th[1], 0.0),
    "safe_square_root": lambda x, th: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0),
    "safe_log": lambda x, th: jnp.where(x > 1, jnp.log(jnp.where(x > 1, x, 1.0)), 0.0),
    "safe_division": lambda x, th: jnp.where(x == 0, 1.0, jnp.sin(x) / jnp.where(x == 0, 1.0, x)),
    "nan_guard": lambda x, th: jnp.where(jnp.isnan(x), 0.0, x**2),
    "logsumexp": lambda x, th: jax.nn.logsumexp(jnp.stack([x, th[0], 0.0])),
    "softmax": lambda x, th: jax.nn.softmax(jnp.stack([x, th[0]]))[0],
    "logaddexp": lambda x, th: jnp.logaddexp(x, th[1]),
    "smallest": lambda x, th: jnp.sort(jnp.stack([x, th[0], 0.5]))[0],
    "median": lambda x, th: jnp.median(jnp.stack([x, th[0], 0.5])),
    "largest_two": lambda x, th: lax.top_k(jnp.stack([x, th[0], 0.5]), 2)[0].sum(),
    "norm": lambda x, th: jnp.linalg.norm(jnp.stack([x, th[1]])),
    "exponential": lambda x, th: jnp.exp(0.5 * x),
    "half_precision": lambda x, th: jax.nn.leaky_relu(x.astype(jnp.bfloat16)).astype(jnp.float32),
}


for _name, _value in SMOOTH.items():
    of_affine_noise("path", _name, _value)


@drawn("path", lambda th: th[1] * (th[1] + 1) + 0 * th[0])
def gamma_square(th, key):
    return random.gamma(key, th[1]) ** 2


@drawn("path", lambda th: 1 + 0 * th[0] + jax.scipy.special.digamma(th[1] + 1))
def log_density_with_its_support(th, key):
    x = random.gamma(key, th[1] + 1)
    return jnp.sum(jnp.where(x > 0, jnp.log(x), -jnp.inf)) + 1


@drawn("path", lambda th: (th[0] + th[1]) / 2)
def moving_uniform(th, key):
    return random.uniform(key, minval=th[0], maxval=th[1])


@drawn("path", lambda th: th[0] ** 2 + 1 + th[1])
def shared_key_by_path(th, key):
    return (th[0] + random.normal(key)) ** 2 + th[1] * (1 + random.normal(key))


def masked_by_hand(x):
    return x * (x > 0) + (x <= 0) * 0.1 * x


def selected_by_hand(x):
    left = (x < 0.1).astype(jnp.float32)
    return left * x**2 + (1 - left) * (0.2 * x - 0.01)


def selected_from_three(x):
    return jnp.select([x < 0, x < 0.1], [0 * x, x**2], 0.2 * x - 0.01)


for _kink in (masked_by_hand, selected_by_hand, selected_from_three):

    def _of_a_scaled_uniform(th, u, kink=_kink):
        return jnp.sum(kink(th[1] * u - th[0]))

    _of_a_scaled_uniform.__name__ = _kink.__name__
    noise("path", random.uniform)(_of_a_scaled_uniform)


@noise("path", random.uniform)
def angle_on_one_side(th, u):
    return jnp.arctan2(th[0] * u - 0.1, 2.0) * th[1]


# Jumps with a known law: mended ----------------------------------------------------------------

EVENTS = {
    "threshold": lambda x, th: jnp.where(x > 0, 2.0, 0.5),
    "threshold_times_parameter": lambda x, th: th[1] * (x < 0.2),
    "turned": lambda x, th: jnp.where(-x >= th[1], 2.0, 0.5),
    "half": lambda x, th: (x / 2 + 1 > th[0] ** 2).astype(jnp.float32),
    "count": lambda x, th: jnp.stack([x, x]).sum() + (x > 0),
    "floor": lambda x, th: jnp.floor(2 * x),
    "ceil": lambda x, th: jnp.ceil(x) ** 2,
    "round": lambda x, th: jnp.round(x) * th[1],
    "sign": lambda x, th: jnp.sign(x),
    "remainder": lambda x, th: jnp.remainder(x, 1.0),
    "integer": lambda x, th: x.astype(jnp.int32).astype(jnp.float32),
    "jump_and_path": lambda x, th: jnp.where(x > 0, 2.0, 0.5) + x**2,
    "jump_after_exp": lambda x, th: jnp.where(jnp.exp(x) > 1.5, x, 0.0),
    "argmax": lambda x, th: jnp.argmax(jnp.stack([x, 0.1])).astype(jnp.float32),
    "argsort": lambda x, th: jnp.argsort(jnp.stack([x, 0.1, 0.4]))[0].astype(jnp.float32),
    "searchsorted": lambda x, th: jnp.searchsorted(jnp.array([-0.5, 0.2, 0.9]), x) * 1.0,
    "branch": lambda x, th: lax.cond(x > 0, lambda: 2 * th[1], lambda: th[0]),
    "discontinuous_where": lambda x, th: jnp.where(x > 0, x + 1e-2, x),
    "straight_through": lambda x, th: x + lax.stop_gradient(jnp.sign(x) - x),
    "equal_after_relu": lambda x, th: jnp.where(jax.nn.relu(x) == 0, 1.0, 0.0),
    "density_of_a_half_line": lambda x, th: jnp.exp(jnp.where(x > 0, -0.7, -jnp.inf)),
    "density_of_a_box": lambda x, th: jnp.exp(jnp.where(jnp.abs(x) < 1, -0.7, -jnp.inf)),
}


for _name, _value in EVENTS.items():
    of_affine_noise("mended", _name, _value)


@noise("mended", random.uniform)
def uniform_below(th, u):
    return jnp.where(u < sigmoid(th[0]), 2.0, th[1])


@noise("mended", random.uniform)
def uniform_above(th, u):
    return jnp.where(th[1] >= u, 2.0, th[0])


@noise("mended", random.uniform)
def one_minus_uniform(th, u):
    return (1 - u < th[1]) * (1 + th[0])


@noise("mended", random.uniform)
def scaled_uniform(th, u):
    return (3 * u - 1 > th[0]) * 2.0


@noise("mended", random.logistic)
def logistic_above(th, z):
    return jnp.where(z + th[0] > 0, 2.0, th[1])


@noise("mended", random.exponential)
def exponential_above(th, z):
    return jnp.where(z * th[1] > th[0], 2.0, 1.0)


@noise("mended", random.laplace)
def laplace_floor(th, z):
    return jnp.floor(affine(th, z))


@noise("mended", random.gumbel)
def gumbel_round(th, z):
    return jnp.round(affine(th, z))


@noise("mended", random.cauchy)
def cauchy_sign(th, z):
    return jnp.sign(affine(th, z)) * th[1]


@noise("mended", random.uniform, (2.3, 0.7))
def uniform_floor(th, u):
    return jnp.floor(2 * th[0] * u + th[1]) ** 2


@noise("mended", random.exponential)
def exponential_floor_with_a_moving_edge(th, z):
    return jnp.floor(th[0] + 2 * z * th[1])


@noise("mended", random.exponential)
def ceil_of_a_scaled_exponential(th, z):
    return jnp.ceil(3 * th[1] * z) * th[0]


@noise("mended", random.normal)
def rounded_log_normal(th, z):
    return jnp.minimum(jnp.round(jnp.exp(affine(th, z))), 9.0)


@noise("mended", random.normal)
def integer_of_a_square_root(th, z):
    return jnp.sqrt(jnp.exp(affine(th, z)) * 3).astype(jnp.int32) * th[1]


@drawn("mended", lambda th: (1 - th[1]) / th[1] * th[0])
def geometric_by_inversion(th, key):
    u = random.uniform(key)
    return jnp.floor(jnp.log1p(-u) / jnp.log1p(-th[1])) * th[0]


@drawn("mended", lambda th: jax.nn.softmax(th) @ jnp.array([1.0, -2.0]), (0.3, 0.7))
def categorical_by_counting(th, key):
    total = jnp.cumsum(jax.nn.softmax(th))
    return jnp.array([1.0, -2.0])[jnp.sum(total < random.uniform(key))]


@drawn("mended", lambda th: jax.nn.softmax(jnp.append(th, 0.2)) @ jnp.array([0.5, 1.0, -2.0]))
def categorical_by_counting_from_above(th, key):
    total = jnp.cumsum(jax.nn.softmax(jnp.append(th, 0.2)))
    u = random.uniform(key, (1,))
    return jnp.array([0.5, 1.0, -2.0, 7.0])[3 - jnp.sum(u < total)]


@drawn(
    "mended",
    lambda th: jnp.sum((jax.nn.softmax(jnp.outer(th, jnp.arange(3.0)), -1) @ jnp.arange(3.0)) ** 2),
)
def two_rows_by_counting(th, key):
    p = jax.nn.softmax(jnp.outer(th, jnp.arange(3.0)), -1)
    total = jnp.cumsum(p, -1)
    total = total[:, :-1] / total[:, -1:]
    draw = lambda k: jnp.sum(random.uniform(k, (2, 1)) > total, -1)  # noqa: E731
    k1, k2 = random.split(key)
    return jnp.sum(draw(k1) * draw(k2)) * 1.0


# Other laws, and other ways, whatever becomes of the result -------------------------------------


def looked_at(x):
    """A jump, and a smooth way, so that no law of the outcome alone will do."""
    return jnp.where(x > 0.8, 1.0, 0.0) + jnp.tanh(x)


def by_density(draw: Callable, law: Callable, params=(0.3, 0.7)) -> Callable:
    """Adds a draw of a SciPy law whose parameters are a function of params."""

    def quantiles(th):
        q = (np.arange(20_000) + 0.5) / 20_000
        return float(np.mean(looked_at(jnp.asarray(law(th).ppf(q)))))

    def gradient(th, step=0.01):
        unit = np.eye(len(th)) * step
        return np.array([(quantiles(th + e) - quantiles(th - e)) / (2 * step) for e in unit])

    def program(th, key):
        return looked_at(draw(th, key))

    program.__name__ = draw.__name__
    GOLD.append(Gold(draw.__name__, "mended", program, gradient, params))
    return draw


@lambda f: by_density(f, lambda th: st.gamma(1 + th[0], scale=th[1]))
def scaled_gamma(th, key):
    return random.gamma(key, 1 + th[0]) * th[1]


@lambda f: by_density(f, lambda th: st.beta(th[0] + 1, th[1]))
def beta_itself(th, key):
    return random.beta(key, th[0] + 1, th[1])


@lambda f: by_density(f, lambda th: st.expon(scale=th[1] + th[0]))
def exponential_by_inversion(th, key):
    return -jnp.log(random.uniform(key)) * (th[0] + th[1])


@lambda f: by_density(f, lambda th: st.expon(loc=-1.0, scale=th[1] + th[0]))
def exponential_that_is_shifted_by_a_number(th, key):
    return (th[0] + th[1]) * random.exponential(key) - 1.0


@lambda f: by_density(f, lambda th: st.lognorm(th[1], scale=np.exp(th[0])))
def exponential_of_a_normal(th, key):
    return jnp.exp(th[0] + th[1] * random.normal(key))


@lambda f: by_density(f, lambda th: st.pareto(2 + th[0], scale=0.5))
def pareto_of_a_shape(th, key):
    return random.pareto(key, 2 + th[0]) / 2


@lambda f: by_density(f, lambda th: st.weibull_min(1 + th[1], scale=1 + th[0]))
def weibull_of_both(th, key):
    return random.weibull_min(key, 1 + th[0], 1 + th[1])


@lambda f: by_density(f, lambda th: st.t(3 + th[1], loc=th[0]))
def shifted_t(th, key):
    return th[0] + random.t(key, 3 + th[1])


@lambda f: by_density(f, lambda th: st.chi2(2 + th[0], scale=th[1]))
def scaled_chisquare(th, key):
    return random.chisquare(key, 2 + th[0]) * th[1]


@lambda f: by_density(f, lambda th: st.rayleigh(scale=th[0] + th[1]))
def rayleigh_of_a_scale(th, key):
    return random.rayleigh(key, th[0] + th[1])


@lambda f: by_density(f, lambda th: st.maxwell(scale=th[1]))
def scaled_maxwell(th, key):
    return random.maxwell(key) * th[1]


@lambda f: by_density(f, lambda th: st.lognorm(th[1], scale=np.exp(th[0])))
def scaled_lognormal(th, key):
    return random.lognormal(key, th[1]) * jnp.exp(th[0])


@lambda f: by_density(f, lambda th: st.loggamma(1 + th[0], loc=th[1]))
def shifted_loggamma(th, key):
    return random.loggamma(key, 1 + th[0]) + th[1]


@drawn("mended", lambda th: jnp.sum(sigmoid(th / (1 + th))))
def threshold_behind_a_transpose(th, key):
    """Two more elements are looked at, so that it is no event; their values add nothing."""
    x = th[:, None] + jnp.transpose(random.logistic(key, (3, 2)) * (1 + th))
    return jnp.sum(x[:, 0] > 0) + 0 * x[1, 1] * x[0, 2]


@drawn("refused")
def exponential_that_is_shifted(th, key):
    return looked_at(th[0] + random.exponential(key))


@drawn("refused")
def uniform_that_is_scaled(th, key):
    return looked_at(th[0] * random.uniform(key))


@drawn("refused")
def logarithm_of_a_scaled_uniform(th, key):
    """The upper end moves, the lower one is infinitely far away."""
    return looked_at(jnp.log(th[1] * random.uniform(key)))


@drawn("refused")
def scaled_logarithm_of_half_a_uniform(th, key):
    return looked_at(th[0] * -jnp.log(random.uniform(key, minval=0.5)))


@drawn("refused")
def shifted_exponential_of_a_scaled_normal(th, key):
    return looked_at(jnp.exp(th[1] * random.normal(key)) + th[0])


@drawn("refused")
def scaled_pareto(th, key):
    return looked_at(th[0] * random.pareto(key, 2.0))


WORTH = jnp.array([1.0, -2.0, 0.5, 3.0])


def worth_of_a_class(th):
    return jax.nn.softmax(jnp.append(th, 0.2)) @ WORTH[:3]


@jax.jit
def searchsorted(table, query):
    """Not what its name says."""
    return jnp.sum(table < 2 * query)


@drawn("refused")
def search_by_name_only(th, key):
    total = jnp.cumsum(jax.nn.softmax(jnp.append(th, 0.2)))
    return WORTH[searchsorted(total, random.uniform(key))]


@drawn("mended", worth_of_a_class)
def categorical_by_search(th, key):
    total = jnp.cumsum(jax.nn.softmax(jnp.append(th, 0.2)))
    first = jnp.searchsorted(total, jnp.array(1e-6))  # not the search that is meant
    return WORTH[first + jnp.searchsorted(total, random.uniform(key))]


@drawn("mended", lambda th: worth_of_a_class(th) ** 2)
def categorical_by_search_of_what_is_left(th, key):
    """As `jax.random.choice` does it, weights that do not sum to one included."""
    total = jnp.cumsum(3 * jnp.exp(jnp.append(th, 0.2)))
    r = total[-1] * (1 - random.uniform(key, (2,)))
    return jnp.prod(WORTH[jnp.searchsorted(total, r, side="right")])


@drawn("mended", lambda th: 2 * worth_of_a_class(th))
def categorical_by_search_in_rows(th, key):
    total = jnp.cumsum(jax.nn.softmax(jnp.append(th, 0.2)))
    rows = jnp.stack([total, total])
    u = random.uniform(key, (2,))
    return jnp.sum(WORTH[jax.vmap(jnp.searchsorted)(rows, u)])


@drawn("mended", lambda th: jax.scipy.stats.norm.cdf(jnp.array([th[1], 1.0]) - th[0]).sum())
def ordered_probit(th, key):
    cuts = jnp.array([th[1], 1.0])
    return 2.0 - jnp.searchsorted(cuts, th[0] + random.normal(key))


def worth_of_a_pair(th):
    p = jax.nn.softmax(jnp.append(th, 0.2))
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    return sum(p[i] * p[j] / (1 - p[i]) * WORTH[i] * (1 + j) for i, j in pairs)


@drawn("mended", worth_of_a_pair)
def top_k_of_perturbed_logits(th, key):
    i, j = lax.top_k(jnp.append(th, 0.2) + random.gumbel(key, (3,)), 2)[1]
    return WORTH[i] * (1 + j)


@drawn("mended", worth_of_a_pair)
def order_of_perturbed_logits(th, key):
    i, j, _ = jnp.argsort(-(jnp.append(th, 0.2) + random.gumbel(key, (3,))))
    return WORTH[i] * (1 + j)


@drawn(  # they are independent
    "mended",
    lambda th: worth_of_a_class(th) * (jax.nn.logsumexp(jnp.append(th, 0.2)) + np.euler_gamma),
)
def largest_of_perturbed_logits_and_its_index(th, key):
    value, index = lax.top_k(jnp.append(th, 0.2) + random.gumbel(key, (3,)), 1)
    return WORTH[index[0]] * value[0]


@drawn("mended", lambda th: 9 * th[0] * th[1] * (1 / (1 - th[0]) + 1 / (1 - th[1])), (0.2, 0.3))
def choice_without_replacement_of_raw_probabilities(th, key):
    """Two of them are zero, and no NaN comes of that."""
    p = jnp.concatenate([th, 0 * th, 1 - th.sum(keepdims=True)])
    i, j = random.choice(key, 5, (2,), replace=False, p=p)
    return jnp.where(jnp.maximum(i, j) == 1, 9.0, 0.0)


@drawn("mended", lambda th: 2 * worth_of_a_pair(th))
def choices_without_replacement(th, key):
    k1, k2 = random.split(key)
    logits = jnp.stack([jnp.append(th, 0.2)] * 2, -1)
    i, j = random.categorical(k1, logits, 0, (2, 2), replace=False)
    a, b = random.choice(k2, WORTH[:3], (2,), replace=False, p=jax.nn.softmax(logits[:, 0]))
    worth = sum((WORTH[:3] == b) * jnp.arange(3))
    return jnp.sum(WORTH[i] * (1 + j)) / 2 + a * (1 + worth)


@drawn("mended", lambda th: jax.nn.softmax(th) @ jnp.array([1.0, -2.0]))
def gumbel_argmax(th, key):
    return jnp.array([1.0, -2.0])[jnp.argmax(th + random.gumbel(key, (2,)))]


@drawn("mended", lambda th: 1 / th[1] + 0 * th[0])
def uniform_with_moving_bounds(th, key):
    return (random.uniform(key, minval=0.0, maxval=2 * th[1]) < 1.0) * 2.0 * 1.0


@drawn("mended", lambda th: sigmoid(th[0]) * (1 - jnp.exp(-0.05)) * th[1])
def event_that_moves_a_threshold_a_little(th, key):
    k1, k2 = random.split(key)
    x = 1.0 * (random.uniform(k1) < sigmoid(th[0]))
    z = random.laplace(k2)
    return 2 * th[1] * ((z < 0.05 * x) * 1.0 - (z < 0))


@drawn("mended", lambda th: (1 + sigmoid(th[0])) / 2 * th[1])
def wider_uniform_below_a_sigmoid(th, key):
    return (random.uniform(key, minval=-1.0, maxval=1.0) < sigmoid(th[0])) * th[1]


@drawn("mended", lambda th: 0.4 / sigmoid(th[0]) * th[1])
def uniform_up_to_a_sigmoid_below_a_number(th, key):
    return (random.uniform(key, maxval=sigmoid(th[0])) < 0.4) * th[1]


@drawn("mended", lambda th: 3 * sigmoid(th[0]) + 3 * th[1])
def uniform_below_in_a_scan(th, key):
    def step(total, key):
        k1, k2 = random.split(key)
        total += (random.uniform(k1) < sigmoid(th[0])) * 1.0
        return total + (random.uniform(k2) < th[1]), None

    return lax.scan(step, 0.0, random.split(key, 3))[0]


@drawn("mended", lambda th: sigmoid(th[0]) * 3 * (sigmoid(th[0]) + th[1]) * 0.5)
def events_before_and_after_a_scan_with_events(th, key):
    """What is put in moves what stands behind it, calls and loops included."""
    k1, k2, k3 = random.split(key, 3)
    first = random.uniform(k1) < sigmoid(th[0])

    def step(total, key):
        a, b = random.split(key)
        low = jax.jit(lambda k: random.uniform(k) < sigmoid(th[0]))(a)
        return total + low + (random.uniform(b) < th[1]), None

    total = lax.scan(step, 0.0, random.split(k2, 3))[0]
    kept_whole = jax.jit(lambda x: (2 * x + 1 - jnp.cos(0 * x)) / 2)(first * total)
    return jax.jit(lambda x, k: x * (random.uniform(k) < 0.5 + 0 * th[1]))(kept_whole, k3)


@drawn("mended", lambda th: sigmoid(th[0]) * th[1])
def uniform_below_in_a_vmap(th, key):
    draw = jax.vmap(lambda k, p: random.uniform(k) < p)
    return jnp.prod(draw(random.split(key), jnp.stack([sigmoid(th[0]), th[1]])) * 1.0)


@drawn("mended", lambda th: jax.scipy.stats.norm.cdf(th[0] / jnp.hypot(th[1], 0.5)))
def two_noises(th, key):
    k1, k2 = random.split(key)
    return (th[0] + th[1] * random.normal(k1) + 0.5 * random.normal(k2) > 0) * 1.0


# Discrete draws ----------------------------------------------------------------------------------


@drawn("scored", lambda th: sigmoid(th[0]) * th[1])
def bernoulli(th, key):
    return random.bernoulli(key, sigmoid(th[0])) * th[1]


@drawn("scored", lambda th: jnp.exp(th[0]) * th[1])
def poisson(th, key):
    return random.poisson(key, jnp.exp(th[0])) * th[1]


@drawn("scored", lambda th: sigmoid(th[0]) * 0.3 + 0.7 * 2 * sigmoid(th[1]))
def one_key_in_branches_of_which_one_is_taken(th, key):
    which, key = random.split(key)
    return lax.cond(
        random.bernoulli(which, 0.3),
        lambda: 1.0 * random.bernoulli(key, sigmoid(th[0])),
        lambda: 2.0 * random.bernoulli(key, sigmoid(th[1])),
    )


@drawn("scored", lambda th: sigmoid(th[0]) * th[1])
def two_keys_of_a_key_that_is_split_twice(th, key):
    x = random.bernoulli(random.split(key)[0], sigmoid(th[0]))
    return 1.0 * x * random.bernoulli(random.split(key)[1], th[1])


@drawn("scored", lambda th: jax.nn.softmax(th) @ jnp.array([1.0, -2.0]))
def categorical(th, key):
    return jnp.array([1.0, -2.0])[random.categorical(key, th)]


# Biased whatever one does with these draws: refused --------------------------------------------


@noise("refused", random.normal)
def noise_used_twice(th, z):
    return jnp.floor(affine(th, z)) + jnp.sin(z)


@noise("refused", random.normal)
def jump_of_a_bent_noise(th, z):
    return jnp.floor(th[0] + th[1] * z**2)


@noise("refused", random.uniform)
def uniform_compared_and_used(th, u):
    return jnp.where(u < th[0], u, 0.0)


@drawn("refused")
def counting_draws_instead_of_thresholds(th, key):
    total = jnp.cumsum(jax.nn.softmax(jnp.append(th, 0.2)))
    return jnp.sum(jnp.sum(total[:, None] < random.uniform(key, (1, 3)), -1) ** 2) * 1.0


@drawn("refused")
def counting_across_the_sums(th, key):
    total = jnp.cumsum(jax.nn.softmax(jnp.outer(th, jnp.arange(3.0)), -1), -1)
    return jnp.sum(jnp.sum(total < random.uniform(key, (1, 3)), 0) ** 2) * 1.0


@drawn("refused")
def counting_thresholds_in_no_order(th, key):
    return jnp.sum(sigmoid(th) < random.uniform(key)) ** 2 * 1.0


@drawn("refused")
def dirichlet_floor(th, key):
    return jnp.floor(3 * random.dirichlet(key, jnp.append(th, 1.0))).sum()


@drawn("refused")
def one_uniform_for_two_thresholds(th, key):
    u = random.uniform(key)
    return (u < sigmoid(th[0])) * 1.0 + 2.0 * (u < th[1])


@drawn("refused")
def one_uniform_for_an_array(th, key):
    return jnp.prod((random.uniform(key) < th) * 1.0)


@drawn("refused")
def one_key_twice(th, key):
    x, y = random.bernoulli(key, th[0]), random.bernoulli(key, th[1])
    return 3.0 * x * y


@drawn("refused")
def one_legacy_key_twice(th, key):
    data = random.key_data(key)
    x, y = random.bernoulli(data, th[0]), random.bernoulli(data, th[1])
    return 3.0 * x * y


@drawn("refused")
def one_fold_twice(th, key):
    x = random.bernoulli(random.fold_in(key, 1), th[0])
    return 3.0 * x * random.bernoulli(random.fold_in(key, 1), th[1])


@drawn("refused")
def one_key_of_a_key_that_is_split_twice(th, key):
    x = random.bernoulli(random.split(key)[0], th[0])
    return 3.0 * x * random.bernoulli(random.split(key)[0], th[1])


@drawn("refused")
def one_key_for_all_steps(th, key):
    step = lambda total, _: (total + random.bernoulli(key, th[0]), None)  # noqa: E731
    return lax.scan(step, 0.0, None, length=3)[0] ** 2


@drawn("refused")
def one_key_by_hand(th, key):
    x, y = random.uniform(key) < th[0], random.uniform(key) < th[1]
    return 3.0 * x * y


@drawn("refused")
def one_key_for_mapped_parameters(th, key):
    return jnp.prod(jax.vmap(lambda p: random.bernoulli(key, p))(th) * 1.0)


@drawn("refused")
def noise_from_outside_of_the_scan(th, key):
    step = lambda total, z: (total + jnp.floor(th[0] + th[1] * z), None)  # noqa: E731
    return lax.scan(step, 0.0, random.normal(key, (3,)))[0]


@drawn("refused")
def while_loop(th, key):
    def body(state):
        key, n = state
        key, use = random.split(key)
        return key, n + random.bernoulli(use, th[0])

    return lax.while_loop(lambda s: s[1] < 2, body, (key, 0.0))[1] * th[1]


@noise("mended", random.normal)
def jump_and_moving_kink(th, z):
    x = affine(th, z)
    return (x > 0) + jax.nn.relu(x + th[0])


@drawn("refused")
def jump_at_a_place_that_moves(th, key):
    """The other one is mended by scoring x, and after that x + th still jumps when th moves."""
    x = affine(th, random.normal(key))
    return (x > 0) + jnp.floor(x + th[0])


@jscg.sampler(lambda x, mean: -0.5 * (x - mean) ** 2)
def shifted_normal(key, mean):
    return mean + random.normal(key)


@drawn("scored", lambda th: jax.scipy.stats.norm.cdf(th[0]) * th[1])
def sampler_below_a_number(th, key):
    return (shifted_normal(key, th[0]) > 0) * th[1]


@drawn("refused")
def sampler_below_a_parameter(th, key):
    return 1.0 * (shifted_normal(key, th[0]) > th[1])


@drawn("refused")
def angle_that_turns_over(th, key):
    x = random.uniform(key, (2,), minval=-1.0) + th
    return jnp.arctan2(x[0], x[1] * th[1])


@drawn("refused")
def selected_from_three_that_jumps(th, key):
    x = th[1] * random.uniform(key)
    return jnp.select([x < 0.1, x < 0.3], [0 * x, x**2], 0.2 * x - 0.01)


@drawn("refused")
def masked_by_hand_with_a_jump(th, key):
    x = th[1] * random.uniform(key)
    return x * (x > 0.1)


@drawn("scored", lambda th: sigmoid(th[0]) * th[1] - th[1] / 2)
def common_random_numbers_on_purpose(th, key):
    x, other = (random.bernoulli(key, p) for p in (sigmoid(th[0]), 0.5))
    return x * th[1] - jscg.stop_influence(other * 1.0) * th[1]


@drawn("refused")
def bits_as_a_uniform_number(th, key):
    return (random.bits(key).astype(jnp.float32) * 2.0**-32 < sigmoid(th[0])) * th[1]


@drawn("refused")
def bits_below_a_rounded_number(th, key):
    return (random.bits(key) >> 8 < (sigmoid(th[0]) * 2**24).astype(jnp.uint32)) * th[1]


@drawn("refused")
def bits_of_a_generator(th, key):
    _, bits = lax.rng_bit_generator(jnp.tile(random.key_data(key), 2), (), jnp.uint32)
    return (lax.bitcast_convert_type(bits >> 9 | 0x3F800000, jnp.float32) - 1 < th[1]) * th[0]


@drawn("free", lambda th: th[0] / 2 + th[1] / 2)
def bits_as_a_coin(th, key):
    return jnp.where(random.bits(key) & 1, th[0], th[1])


@drawn("refused")
def search_of_many_in_each_row(th, key):
    """Two axes of batches, of which the table has one: its equation does not say which."""
    rows = jnp.cumsum(jax.nn.softmax(jnp.stack([jnp.append(th, 0.2)] * 2)), -1)
    each = jax.vmap(jax.vmap(jnp.searchsorted, (None, 0)))(rows, random.uniform(key, (2, 2)))
    return jnp.sum(WORTH[each])


@drawn("refused")
def while_loop_after_an_event(th, key):
    k1, k2 = random.split(key)
    return (random.uniform(k1) < sigmoid(th[0])) * while_loop(th, k2)


@drawn("refused")
def randint_bounds(th, key):
    return random.randint(key, (), 0, (10 * th[0]).astype(jnp.int32)) * th[1]


# Nothing to do ---------------------------------------------------------------------------------


@noise("free", random.uniform)
def dropout(th, u):
    return jnp.where(u < 0.5, 2 * th[0], 0.0) ** 2


@noise("free", random.normal)
def mask_times_parameter(th, z):
    return (z > 0.3) * th[0]


@noise("free", random.normal)
def stopped(th, z):
    return jnp.where(lax.stop_gradient(z) > 0, th[0], th[1] ** 2)


@drawn("free", lambda th: 0.3 * th[0])
def constant_probability(th, key):
    return random.bernoulli(key, 0.3) * th[0]


@drawn("free", lambda th: jnp.where(th[0] > 0, th[0] ** 2, th[1]))
def branch_on_a_parameter(th, key):
    return jnp.where(th[0] > 0, th[0] ** 2, th[1]) + random.normal(key)


@drawn("free", lambda th: 4.5 * th[0])
def randint(th, key):
    return random.randint(key, (), 0, 10) * th[0]


@drawn("free", lambda th: th[0] + 0 * th[1])
def jump_in_what_is_not_returned(th, key):
    _ = jnp.floor(th[0] + random.normal(key))
    return th[0] * 1.0
