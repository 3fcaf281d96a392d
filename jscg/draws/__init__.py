"""The samplers of `jax.random`, one family to a file; importing this package registers all."""

import importlib
import pkgutil

from jscg.draws._family import FAMILIES, Family, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["FAMILIES", "Family", "register"]
