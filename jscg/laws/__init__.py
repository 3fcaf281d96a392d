"""What may take the place of a jump: draws whose law follows from that of the noise.

One law to a file; importing this package registers all.  Each looks at one jump and one draw of
noise, and gives what can be drawn instead, or None where it knows nothing to say.  They are asked
in the order of their names, those that are registered with `last=True` after all others.

To add one, add a file with a function under `@law()`, and a program to `tests/gold.py`.
"""

import importlib
import pkgutil

from jscg.laws._registry import Law, all_laws, law

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Law", "all_laws", "law"]
