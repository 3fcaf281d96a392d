"""While jscg traces, every public sampler of `jax.random` binds the primitive `draw`.

The functions themselves are kept, and only their code is exchanged, so that names imported by
`from jax.random import ...` are covered too.  Exchanging the code is one assignment.  It lasts as
long as some thread traces, and threads that do not trace run the original code through it.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._context import traced_by_jscg, tracing
from ._errors import ArgumentTypeError
from ._primitives import draw_p, typed
from .draws import FAMILIES

_SAMPLERS = {name: getattr(jax.random, name) for name in FAMILIES if hasattr(jax.random, name)}
_SIGNATURES = {name: inspect.signature(fun) for name, fun in _SAMPLERS.items()}
_lock = threading.Lock()
_depth = 0


def _copy(fun: types.FunctionType) -> types.FunctionType:
    same = types.FunctionType(fun.__code__, fun.__globals__, fun.__name__, fun.__defaults__)
    same.__kwdefaults__ = fun.__kwdefaults__
    return same


def _shim(name: str) -> types.CodeType:
    source = (
        "def shim(*args, **kwargs):\n"
        "    from jscg._intercept import sample\n"
        f"    return sample({name!r}, args, kwargs)\n"
    )
    scope: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), scope)
    return scope["shim"].__code__


_ORIGINALS = {name: _copy(fun) for name, fun in _SAMPLERS.items()}
_SHIMS = {name: _shim(name) for name in _SAMPLERS}


@contextlib.contextmanager
def explicit_draws():
    """Context manager under which this thread's draws are traced as equations."""
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            for name, fun in _SAMPLERS.items():
                fun.__code__ = _SHIMS[name]
    try:
        with traced_by_jscg():
            yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                for name, fun in _SAMPLERS.items():
                    fun.__code__ = _ORIGINALS[name].__code__


def sample(name: str, args: tuple, kwargs: dict[str, Any]):
    """What a sampler of `jax.random` does while its code is exchanged."""
    if not tracing():
        return _ORIGINALS[name](*args, **kwargs)
    given = dict(_SIGNATURES[name].bind(*args, **kwargs).arguments)
    if not given.get("replace", True):  # Gumbel noise and the largest: see `laws.perturbed`
        return _ORIGINALS[name](**given)
    return _choice(given) if name == "choice" else _draw(name, given)


def _draw(name: str, given: dict[str, Any]):
    key = given.pop("key")
    if np.ndim(key) == 0 and jnp.issubdtype(jnp.result_type(key), jnp.number):
        raise ArgumentTypeError(
            f"jscg: the key of this {name} draw is a number, {key!r}. A key is made of a number by "
            "jax.random.key(0): give the function that."
        )
    key = typed(key)
    # Python scalars stay as they are: jax.random reads their weak type.
    names = tuple(
        n
        for n in FAMILIES[name].operands
        if given.get(n) is not None and not isinstance(given[n], (bool, int, float))
    )
    operands = [jnp.asarray(given.pop(n)) for n in names]
    static = tuple(sorted((k, _hashable(v)) for k, v in given.items()))
    return draw_p.bind(key, *operands, family=name, names=names, static=static, batch=())


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
        return tuple(_hashable(v) for v in value)
    return value


def _choice(given: dict[str, Any]):
    """Splits `choice` with probabilities into the index that is drawn and the value there."""
    if given.get("p") is None:
        return _ORIGINALS["choice"](**given)  # a randint or a shuffle: draws by themselves
    values, axis = given.pop("a"), given.pop("axis", 0)
    if np.ndim(values) == 0:
        return _draw("choice", given | {"a": int(values)})
    index = _draw("choice", given | {"a": np.shape(values)[axis]})
    return jnp.take(jnp.asarray(values), index, axis=axis)
