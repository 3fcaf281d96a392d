"""Influence through JAX's operations: sound, as fine as it can be, and apart under `vmap`.

Every function below gets an array of draws, `[3, 4]`, by itself and mapped over the first axis.
"""

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import pytest
from jax import lax, random
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.ode import odeint
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard
from test_influence import KEY, draw, influence_of_output

from jscg._program import build
from jscg.rules import INNER, RULES

SHAPE = 3, 4
P = jnp.full(SHAPE, 0.4)
START, LOWER = jnp.array(1), jnp.tril(jnp.ones((4, 4)))
MESH, EXPLICIT = (
    jax.make_mesh((1,), ("devices",), axis_types=(kind,), devices=jax.devices()[:1])
    for kind in (AxisType.Auto, AxisType.Explicit)
)


def rows(x):
    return x.reshape(-1, 4)


def index(x):
    return x.astype(int)


def matrix(x):
    """A positive definite matrix of the last axis."""
    return jnp.eye(4) * (2.0 + x[..., None]) + 0.1 * x[..., None] * x[..., None, :]


def pooled_slope(x):
    def pool(y):
        return lax.reduce_window(
            y, -jnp.inf, lax.max, (*[1] * (y.ndim - 1), 2), (1,) * y.ndim, "VALID"
        )

    more = x + jnp.arange(4.0)
    return (
        jax.jvp(pool, (more,), (x,))[1] + jax.grad(lambda y: jnp.sum(pool(y) ** 2))(more)[..., 1:]
    )


def pairs(a, b):
    return a[0] + b[0], jnp.maximum(a[1], b[1])


def scattered(x):
    x = rows(x)
    return jnp.zeros((len(x), 3, 4)).at[jnp.arange(len(x)), index(x[:, 0])].add(x)


def convolved(images):
    return lax.conv(images, jnp.ones((3, 1, 2, 1)), (1, 1), "SAME")


def windows(reduce, start, x):
    ones = (1,) * x.ndim
    return lax.reduce_window(x, start, reduce, (*ones[1:], 2), ones, "SAME")


def until(x):
    """As many steps as the first draws of a row, or of all, say."""
    return lax.while_loop(
        lambda c: jnp.sum(c[0]) < 3, lambda c: (c[0] + 1 + x[..., 0], c[1] * 2 + x), (x[..., 0], x)
    )[1]


FUNCTIONS = {
    "approx_max_k": lambda x: lax.approx_max_k(x + jnp.arange(4.0), 2)[0],
    "argmax": lambda x: jnp.argmax(x, -1) * 1.0,
    "argmin": lambda x: jnp.argmin(x, -1) * 1.0,
    "associative_scan": lambda x: lax.associative_scan(jnp.maximum, x, axis=-1),
    "barrier": lambda x: lax.optimization_barrier((x, 2.0 * x))[1],
    "bessel": lambda x: jsp.special.i0e(x) + jsp.special.i1e(x),
    "betainc": lambda x: jsp.special.betainc(1.0 + x, 2.0, 0.5),
    "bits": lambda x: (
        (~index(x) ^ 3 | index(x) & 1) + lax.population_count(index(x)) + lax.clz(index(x))
        + (index(x) << 2) + (index(x) >> 1) + lax.shift_right_logical(index(x), 1)
    ) * 1.0,
    "bitcast": lambda x: lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint8) * 1.0,
    "bitcast_back": lambda x: lax.bitcast_convert_type(
        lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint8), jnp.float32
    ),
    "broadcast": lambda x: jnp.broadcast_to(x[..., None], (*x.shape, 2)),
    "cholesky": lambda x: jnp.linalg.cholesky(matrix(x)),
    "choose": lambda x: jnp.where(x > 0.5, x, 0.3) + jnp.clip(x, 0.2, 0.7) + jnp.sign(x),
    "comparisons": lambda x: 1.0 * (
        (x >= 1) + (x <= 0) + (x == 1) + (x != 1) + (x < 1) + jnp.isfinite(x)
        + lax.nextafter(x, x + 1) + (x % 2)
    ),
    "complex": lambda x: jnp.real(jnp.conj(x + 1j * x) * lax.complex(x, x)) + jnp.imag(x * 1j),
    "concatenate": lambda x: jnp.concatenate([x, 2 * x], -1),
    "convolution": lambda x: convolved(rows(x).reshape(-1, 1, 2, 2)),
    "cumulative": lambda x: (
        jnp.cumsum(x, -1) + jnp.cumprod(x, -1) + lax.cummax(x, x.ndim - 1)
        + lax.cumlogsumexp(x, x.ndim - 1)
    ),
    "cumulative_back": lambda x: lax.cummin(x, x.ndim - 1, reverse=True),
    "det": lambda x: jnp.linalg.det(matrix(x)),
    "device_put": lambda x: jax.device_put(x, jax.devices()[0]) * 2.0,
    "digitize": lambda x: jnp.digitize(x, jnp.array([0.2, 0.7])) * 1.0,
    "dot": lambda x: x @ jnp.ones((4, 2)),
    "dynamic_slice": lambda x: lax.dynamic_slice_in_dim(x, index(x).sum() % 3, 2, -1),
    "eigenvalues": lambda x: jnp.abs(jnp.linalg.eigvals(matrix(x))).sum(-1),
    "eigh": lambda x: jnp.linalg.eigvalsh(matrix(x)),
    "elementary": lambda x: sum(f(0.3 + 0.1 * x) for f in (
        jnp.sin, jnp.cos, jnp.tan, jnp.arcsin, jnp.arccos, jnp.arctan, jnp.sinh, jnp.cosh, jnp.tanh,
        jnp.arccosh, jnp.arctanh, jnp.arcsinh, jnp.exp, jnp.exp2, jnp.expm1, jnp.log, jnp.log1p,
        jnp.log2,
        jnp.sqrt, lax.rsqrt, jnp.cbrt, jnp.square, lambda y: y**3, lambda y: y**y, lax.logistic,
        jnp.floor, jnp.ceil, jnp.round, jnp.abs, lambda y: -y, lambda y: 1 / y, lax.erf, lax.erfc,
        lax.erf_inv, lax.lgamma, lax.digamma, lambda y: jnp.arctan2(y, y + 1),
        lambda y: lax.reduce_precision(y, 8, 3), lambda y: lax.max(y, y**2) - lax.min(y, 0.5 * y),
    )),
    "divided": lambda x: lax.custom_linear_solve(
        lambda y: LOWER[0, 0] * y, jnp.ones(x.shape), lambda _, b: b / (1.0 + x)
    ),
    "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
    "fft_of_two": lambda x: jnp.abs(jnp.fft.fft2(rows(x).reshape(-1, 2, 2))),
    "flip": lambda x: jnp.flip(x, -1),
    "gamma": lambda x: (
        jsp.special.gammainc(1 + x, 1.0) + jsp.special.gammaincc(1 + x, 1.0)
        + jsp.special.polygamma(1, 1 + x) + jsp.special.zeta(2 + x, 1.0)
    ),
    "hessenberg": lambda x: lax.linalg.hessenberg(matrix(x))[0],
    "high_bits": lambda x: lax.mulhi(index(x) << 20, index(x) << 20) * 1.0,
    "histogram": lambda x: jnp.histogram(x, 3)[0] * 1.0,
    "householder": lambda x: lax.linalg.householder_product(matrix(x), x),
    "indexed": lambda x: jnp.arange(5.0)[index(x)] + jnp.take_along_axis(x, index(x), -1),
    "interp": lambda x: jnp.interp(x, jnp.arange(3.0), jnp.array([1.0, 2.0, 0.0])),
    "inverse": lambda x: jnp.linalg.inv(matrix(x)),
    "logsumexp": lambda x: jax.nn.logsumexp(x, -1),
    "lu": lambda x: lax.linalg.lu(matrix(x))[0],
    "lu_solve": lambda x: jsp.linalg.lu_solve(jsp.linalg.lu_factor(matrix(x)), x[..., None]),
    "median": lambda x: jnp.median(x, -1),
    "named": lambda x: checkpoint_name(x * 2, "twice"),
    "nonzero": lambda x: jnp.nonzero(x, size=4)[0] * 1.0,
    "ode": lambda x: odeint(lambda y, t: -y * x, x, jnp.array([0.0, 1.0])),
    "one_hot": lambda x: jax.nn.one_hot(index(x), 3),
    "outer": lambda x: x[..., None] * x[..., None, :],
    "pad": lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 2)]),
    "pinv": lambda x: jnp.linalg.pinv(matrix(x)),
    "polynomial": lambda x: jnp.polyval(jnp.ones(3), x),
    "pooled": lambda x: windows(lax.add, 0.0, x),
    "pooled_least": lambda x: windows(lax.min, jnp.inf, x),
    "pooled_by": lambda x: windows(lax.mul, 1.0, x),
    "pooled_slope": pooled_slope,
    "qr": lambda x: jnp.linalg.qr(matrix(x))[1],
    "reduced": lambda x: (
        x.sum(-1) + x.max(-1) + x.min(-1) + x.prod(-1) + jnp.all(x > 0, -1) + jnp.any(x > 0, -1)
        + jnp.bitwise_xor.reduce(index(x), -1)
    ),
    "reduced_by": lambda x: lax.reduce((x, x), (0.0, 0.0), pairs, (x.ndim - 1,))[1],
    "repeat": lambda x: jnp.repeat(x, 2, -1),
    "reshard": lambda x: reshard(x, NamedSharding(EXPLICIT, PartitionSpec())) * 2,
    "reshape": lambda x: rows(x).reshape(-1, 2, 2),
    "scan": lambda x: lax.scan(lambda c, a: (c * 0.5 + a, c), 0.0, x.reshape(-1))[1],
    "scatter_add": scattered,
    "scatter_extremes": lambda x: x.at[..., 1].min(x[..., 0]).at[..., 2].max(x[..., 3]),
    "scatter_products": lambda x: x.at[..., 1].multiply(x[..., 0]).at[..., 2].subtract(x[..., 3]),
    "scatter_set": lambda x: jnp.zeros((*x.shape[:-1], 3, 4)).at[..., 1, :].set(x),
    "schur": lambda x: jsp.linalg.schur(matrix(x))[0],
    "searchsorted": lambda x: jnp.searchsorted(jnp.arange(4.0), x) * 1.0,
    "select": lambda x: jnp.select([x > 0.5, x < 0.2], [x, x + 3], 2.0),
    "slice": lambda x: x[..., 1:],
    "slopes": lambda x: jax.grad(
        lambda y: jnp.sum(jsp.special.gammainc(1 + y, 1.0 + x) * jnp.tanh(y) * y)
    )(x),
    "slogdet": lambda x: jnp.linalg.slogdet(matrix(x))[1],
    "solve": lambda x: jnp.linalg.solve(matrix(x), x[..., None]),
    "sharded": lambda x: lax.with_sharding_constraint(x, NamedSharding(MESH, PartitionSpec())) + 1,
    "sort": lambda x: jnp.sort(x, -1),
    "split": lambda x: jnp.split(x, 2, -1)[1],
    "stack": lambda x: jnp.stack([x, x**2], -1),
    "svd": lambda x: jnp.linalg.svd(matrix(x), compute_uv=False),
    "switch": lambda x: lax.switch(index(x).sum() % 2, [lambda x: x, lambda x: x**2 + 1], x),
    "symmetric_product": lambda x: lax.linalg.symmetric_product(matrix(x), matrix(x)),
    "tile": lambda x: jnp.tile(x, 2),
    "top_k": lambda x: lax.top_k(x + jnp.arange(4.0), 2)[1] * 1.0,
    "transpose": lambda x: jnp.swapaxes(matrix(x), -1, -2),
    "triangular_sides": lambda x: jsp.linalg.solve_triangular(LOWER, x[..., None], lower=True),
    "triangular": lambda x: jsp.linalg.solve_triangular(jnp.tril(matrix(x)), x[..., None]),
    "triangular_right": lambda x: lax.linalg.triangular_solve(matrix(x), x[..., None, :]),
    "tridiagonal": lambda x: lax.linalg.tridiagonal(matrix(x))[1],
    "tridiagonal_solve": lambda x: lax.linalg.tridiagonal_solve(
        0.1 * x.at[..., 0].set(0), 2 + x, 0.1 * x.at[..., -1].set(0), x[..., None]
    ),
    "unstack": lambda x: jnp.unstack(x, axis=-1)[1] * 2.0,
    "update_slice": lambda x: lax.dynamic_update_slice_in_dim(
        x, 2 * x[..., :2], index(x).sum() % 3, -1
    ),
    "update_slice_at": lambda x: lax.dynamic_update_slice_in_dim(
        jnp.zeros(x.shape), x[..., :2], START, -1
    ),
    "while": until,
}  # fmt: skip
# Only where they are given one row: they take all axes together, or no others.
OF_ONE_ROW = {
    "dynamic_slice",
    "histogram",
    "nonzero",
    "ode",
    "scan",
    "scatter_add",
    "switch",
    "update_slice",
    "while",
}


def alone(name):
    """Of all draws at once."""
    return FUNCTIONS[name]


def mapped(name):
    return jax.vmap(FUNCTIONS[name])


def relation(fun):
    return influence_of_output(lambda p, key: fun(draw(p, key)), P, KEY)["bernoulli"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_stay_apart_under_vmap(name):
    assert relation(mapped(name))[0] == (0, 0, 0)


@pytest.mark.parametrize("way", [alone, mapped])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_moved_moves_only_what_is_influenced(name, way):
    fun = way(name)
    bands, run = relation(fun), jax.jit(fun)
    x = np.array(random.bernoulli(KEY, 0.5, SHAPE), float)
    before = np.asarray(run(jnp.asarray(x)))
    for place in np.ndindex(SHAPE):
        moved = x.copy()
        moved[place] = 1 - moved[place]
        # Other rows of a batched decomposition may round differently.
        changed = ~np.isclose(
            np.asarray(run(jnp.asarray(moved))), before, atol=1e-4, equal_nan=True
        )
        for at in np.argwhere(changed):
            for own, band in zip(place, bands, strict=True):
                assert band is None or at[band[0]] + band[1] <= own <= at[band[0]] + band[2]


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - OF_ONE_ROW))
def test_rows_stay_apart_of_themselves(name):
    band = relation(alone(name))[0]
    assert band == (0, 0, 0)


def primitives(fun):
    program = build(jax.make_jaxpr(fun)(P))
    return {eqn.primitive.name for part in program.walk() for eqn in part.eqns}


# What jscg puts into programs, or is on several devices only; there are other tests of these.
ELSEWHERE = {
    *("baseline", "box", "control_variate", "expectation", "first_order", "relaxed"),
    *("once", "once_unit", "stop_influence", "create_token", "empty", "pbroadcast", "pvary"),
}
# One version of JAX makes these of functions above, another makes something else.
BY_VERSION = {"le_to", "log2", "lt_to", "one_minus_square", "polynomial"}


def test_every_rule_is_used_above():
    used = set().union(*(primitives(way(n)) for n in FUNCTIONS for way in (alone, mapped)))
    missing = RULES.keys() - used - ELSEWHERE - BY_VERSION
    assert not missing
    assert "custom_linear_solve" in used & INNER.keys()
