"""The arguments of a function: which are traced, which are keys, and what they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._errors import ArgumentTypeError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def owners_of(args: tuple, kwargs: dict) -> list[int]:
    """For each leaf, the positional argument that it belongs to; -1 for keyword arguments."""
    owners: list[int] = []
    for i, arg in enumerate(args):
        owners += [i] * len(jax.tree.leaves(arg))
    return owners + [-1] * len(jax.tree.leaves(kwargs))


def roles(options: Any, args: tuple, leaves: list, owners: list[int]):
    """Which leaves are traced, and the positions of arguments with the gradient and of keys."""
    for_gradient = {i % len(args) for i in options.argnums if -len(args) <= i < len(args)}
    keys = {i % len(args) for i in options.key_argnums if -len(args) <= i < len(args)}
    dynamic = [
        owner in for_gradient or owner in keys or is_array(leaf)
        for leaf, owner in zip(leaves, owners, strict=True)
    ]
    return dynamic, for_gradient, keys


def is_array(leaf: Any) -> bool:
    """Whether a leaf is traced wherever it stands."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def argument_names(fun: Callable) -> dict[int, str]:
    """What the function calls its positional arguments, where that is known."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {i: p.name for i, p in enumerate(parameters) if p.kind in _POSITIONAL}


def leaves_for(fun: Callable, argnums: Sequence[int], args: tuple) -> Iterator[tuple[str, Any]]:
    """Every leaf of the arguments that the gradient is for, after its name."""
    named = argument_names(fun)
    for i in argnums:
        if -len(args) <= i < len(args):
            name = named.get(i % len(args), f"args[{i % len(args)}]")
            for path, leaf in jax.tree_util.tree_leaves_with_path(args[i]):
                yield name + jax.tree_util.keystr(path), leaf


def check_arrays(fun: Callable, argnums: Sequence[int], args: tuple) -> None:
    """Raises if something that the gradient is for is no array."""
    for name, leaf in leaves_for(fun, argnums, args):
        if not is_array(leaf) and not isinstance(leaf, (bool, int, float, complex)):
            raise ArgumentTypeError(
                f"jscg: a gradient requires real-valued inputs, but argument {name!r} is {leaf!r}, "
                f"of type {type(leaf).__name__}. Make it an argument of its own that is not in "
                "argnums."
            )


def check_floats(fun: Callable, argnums: Sequence[int], args: tuple) -> None:
    """Raises if something that the gradient is for has none."""
    for name, leaf in leaves_for(fun, argnums, args):
        said = f"jscg: a gradient requires real-valued inputs, but argument {name!r}"
        dtype = None if is_key(leaf) else jnp.result_type(leaf)
        if dtype is None or (dtype == jnp.uint32 and jnp.shape(leaf) == (2,)):
            what = "is a random key" if dtype is None else f"has dtype {dtype}, as a legacy key has"
            raise ArgumentTypeError(f"{said} {what}. {_instead_of_a_key(leaf, args)}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ArgumentTypeError(
                f"{said} has dtype {dtype}. Use a float (1.0 in the place of 1, or "
                "x.astype(float)), or make it an argument of its own that is not in argnums."
            )


def _instead_of_a_key(leaf: Any, args: tuple) -> str:
    """What to do where the gradient is for a key: an argument, or a leaf of one."""
    floats = [
        i
        for i, arg in enumerate(args)
        if any(
            isinstance(x, float) or is_array(x) and kind_of(x) == "float"
            for x in jax.tree.leaves(arg)
        )
    ]
    if floats and any(leaf is arg for arg in args):
        return (
            "Put the parameters first, fun(params, key), or say which argument they are: "
            f"argnums={floats[0]}."
        )
    return "Make it an argument of its own that is not in argnums."


def input_names(fun: Callable, options: Any, args: tuple, kwargs: dict) -> list[str | None]:
    """What to call the inputs of the program of a function; keys have no name."""
    paths, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    owners = owners_of(args, kwargs)
    dynamic, _, keys = roles(options, args, [leaf for _, leaf in paths], owners)
    arguments = argument_names(fun)
    names: list[str | None] = []
    for (path, leaf), owner, traced in zip(paths, owners, dynamic, strict=True):
        if not traced:
            continue
        parts = [arguments.get(owner, f"args[{owner}]")] if owner >= 0 else []
        rest = jax.tree_util.keystr(path[2:], simple=True, separator=".")
        if owner < 0:
            rest = jax.tree_util.keystr(path[1:], simple=True, separator=".")
        hidden = owner in keys or is_key(leaf)
        names.append(None if hidden else ".".join([*parts, *filter(None, [rest])]))
    return names


def kind_of(leaf: Any) -> str:
    """What a dynamic leaf may be used for: "key", "float" or "other"."""
    if is_key(leaf):
        return "key"
    return "float" if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else "other"


def is_key(leaf: Any) -> bool:
    """Whether an argument is a typed key, or an array of them."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
