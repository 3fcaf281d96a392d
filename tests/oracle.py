"""What every statistical test leans on: a program, its exact expectation, and z-scores.

A `Case` pairs ordinary sampling code with the exact expectation of what it returns, written
by hand (enumeration, a truncated series, a moment) and never by sampling. A gradient
estimator is right when the mean of its samples over many keys differs from the exact gradient
by a few of its own standard errors; where those are zero it has to agree to rounding.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

BOUND = 4.5
"""Largest |z| that passes. Keys are fixed, so a test that passes once passes always."""


QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Compiler options for programs that run once: compiling them is what takes the time."""


@dataclass(frozen=True)
class Case:
    """A sampling program over a vector of parameters, with its exact expectation.

    Attributes:
      fun: `fun(params, key) -> scalar`, plain JAX sampling code.
      exact: `exact(params) -> scalar`, the expectation of `fun` over keys.
      params: the parameter vector at which derivatives are compared.
      n: how many keys.
      order: 2 where second derivatives are compared as well.
      blind: components at which plain `jax.grad` is right already, so that this case
        cannot tell whether a score term of theirs is missing.
      may_refuse: raising `JscgError` is as good an answer as the right one.
    """

    name: str
    fun: Callable
    exact: Callable
    params: tuple[float, ...]
    n: int = 100_000
    order: int = 2
    blind: tuple[int, ...] = ()
    may_refuse: bool = False

    def vector(self) -> jax.Array:
        return jnp.asarray(self.params, jnp.float32)

    def __str__(self) -> str:
        return self.name


def register(table: list[Case]):
    """A decorator that adds what `build() -> (fun, exact)` returns to `table`."""

    def with_params(*params, **options):
        def add(build):
            fun, exact = build()
            table.append(Case(build.__name__, fun, exact, params, **options))
            return build

        return add

    return with_params


# Exact expectations.


def grid(*sizes: int) -> np.ndarray:
    """All outcomes of draws with these support sizes, one a row."""
    return np.array(list(itertools.product(*map(range, sizes))))


def total(term: Callable, outcomes) -> jax.Array:
    """The sum of `term(outcome)`, usually probability times cost, over all outcomes."""
    return jnp.sum(jax.vmap(term)(jnp.asarray(outcomes)))


def ber(p, x):
    """Probability of independent Bernoulli outcomes `x` (0 or 1), joint over all axes."""
    return jnp.prod(jnp.where(x == 1, p, 1 - p))


def cat(logits, i):
    """Probability of one categorical outcome `i`."""
    return jax.nn.softmax(logits)[i]


def with_jacobian(fun: Callable) -> Callable:
    """`fun(x)` and its derivative, by what is made on the way there: traced and compiled once."""

    def twice(x):
        found = fun(x)
        return found, found

    def both(x):
        jacobian, found = jax.jacfwd(twice, has_aux=True)(x)
        return found, jacobian

    return both


@functools.cache
def truth(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian of `case.exact`, computed in float64."""
    first = jax.value_and_grad(case.exact)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def derivatives(p):
        if case.order == 1:
            return *first(p), None
        (value, gradient), (_, second) = with_jacobian(first)(p)
        return value, gradient, second

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, derivatives(jnp.asarray(case.params, jnp.float64)))


# Statistics.


def samples(fn: Callable, key: jax.Array, n: int):
    """`fn(key)` for n keys in one compiled call, as float64 arrays with a leading axis n."""
    out = jax.jit(jax.vmap(fn), compiler_options=QUICK)(jax.random.split(key, n))
    return jax.tree.map(lambda a: np.asarray(a, np.float64), out)


def z_of(draws: np.ndarray, exact) -> np.ndarray:
    """Distance of the mean of `draws` from `exact` in standard errors.

    The standard error never counts as less than rounding, so that an estimator without
    variance has to agree to about six digits.
    """
    exact = np.asarray(exact, np.float64)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    return (draws.mean(axis=0) - exact) / np.maximum(error, 1e-6 * (1 + np.abs(exact)))


def z_scores(grad_fn: Callable, exact_grad, key: jax.Array, n: int) -> np.ndarray:
    """z of every element of `grad_fn(key)`, a pytree shaped like `exact_grad`, flattened."""
    scores = jax.tree.map(z_of, samples(grad_fn, key, n), exact_grad)
    return np.concatenate([np.ravel(z) for z in jax.tree.leaves(scores)])


def variance(grad_fn: Callable, key: jax.Array, n: int):
    """Variance over n keys of every element of `grad_fn(key)`."""
    return jax.tree.map(lambda a: a.var(axis=0, ddof=1), samples(grad_fn, key, n))


def hessian_z_scores(surrogate: Callable, params, exact_hessian, key, n) -> np.ndarray:
    """z of every element of the mean Hessian of `surrogate(params, key)` over n keys."""
    hessian = jax.hessian(surrogate)
    return z_scores(lambda k: hessian(params, k), exact_hessian, key, n)


def assert_small(z, what: str = "") -> None:
    """Every z-score is within the bound; NaN fails."""
    z = np.asarray(z)
    assert np.all(np.abs(z) < BOUND), f"{what}: z = {np.array2string(z, precision=2)}"


def assert_case(case: Case, key, estimators: dict[str, object]) -> None:
    """The oracle can judge, and every estimator is unbiased by its judgement.

    All of it is sampled in one compiled call: the draws are the same, so they compile once.
    Second derivatives, which take the most time to compile, are those of the first estimator.
    """
    runs = {
        name: derivatives(case, estimator, case.order if i == 0 else 1)
        for i, (name, estimator) in enumerate(estimators.items())
    }
    if case.may_refuse:
        runs = {name: run for name, run in runs.items() if not refuses(case, run, key)}
    plain = jax.value_and_grad(case.fun)
    params = case.vector()

    def everything(k):
        return plain(params, k), {name: run(params, k) for name, run in runs.items()}

    (values, plain_gradients), found = samples(everything, key, case.n)
    assert_honest(case, values, plain_gradients)
    _, gradient, second = truth(case)
    for name in runs:
        for order, exact in enumerate((gradient, second)[: len(found[name])], 1):
            z = z_of(found[name][order - 1], exact)
            assert_small(z, f"{case.name}, {name}, derivative {order}")


FIRST_ORDER = "the default where no other derivative is wanted"
"""Stands among estimators for what `grad_expectation` chooses, and `surrogate` does not."""


def gradient(fun: Callable, **options) -> Callable:
    """With what is right to any order: `grad_expectation` may choose what is right to the first."""
    import jscg

    return jax.grad(jscg.surrogate(fun, **options))


def derivatives_of(fun: Callable, estimator) -> list[Callable]:
    """The gradient and, where the estimator has one, the Hessian."""
    import jscg

    if estimator == FIRST_ORDER:
        return [jscg.grad_expectation(fun)]
    surrogate = jscg.surrogate(fun, estimators=estimator)
    return [jax.grad(surrogate), jax.hessian(surrogate)]


def derivatives(case: Case, estimator, order: int) -> Callable:
    """Gradient and, to second order, Hessian of the surrogate, as a list."""
    first, *second = derivatives_of(case.fun, estimator)[:order]

    def both(params, key):
        return list(with_jacobian(lambda p: first(p, key))(params))

    return both if second else lambda params, key: [first(params, key)]


def refuses(case: Case, run: Callable, key) -> bool:
    """Whether jscg declines this program, which `may_refuse` allows."""
    import jscg

    try:
        jax.eval_shape(run, case.vector(), key)
    except jscg.JscgError:
        return True
    return False


def assert_honest(case: Case, values, plain_gradients) -> None:
    """The oracle agrees with the sampled value, and a missing score term could not hide.

    Without any jscg: `exact` is the mean of `fun`, and at every component that is not `blind`
    plain `jax.grad` is off by more than 10 rms(f) / sqrt(n), which is about the standard error
    of a score estimator of a parameter of unit score.
    """
    value, gradient, _ = truth(case)
    assert_small(z_of(values, value), f"value of {case.name}")
    unit = np.sqrt(np.mean(values**2) / len(values))
    off = np.delete((plain_gradients.mean(axis=0) - gradient) / unit, case.blind)
    assert np.all(abs(off) > 10), (case.name, off)
