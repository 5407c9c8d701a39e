"""Imports of large libraries that wait until a call needs them.

Such an import can lack a resource for a moment (descriptors, memory, space on a disk). It must not prevent
every later attempt.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType


def import_late(name: str) -> ModuleType:
    """Import a module. If that fails, a later attempt starts from the beginning: see `removing_orphans`.

    Raises:
        Exception: what the module raises.
    """
    with removing_orphans():
        return import_module(name)


@contextmanager
def removing_orphans() -> Generator[None]:
    """Remove, where an import fails, submodules that it has left without their package.

    Python removes the package whose import failed, but keeps its submodules. When the package is imported
    again, they are found in `sys.modules` and never become attributes of the new package. Extension modules
    stay: many can be initialized only once.
    """
    known = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in sorted(set(sys.modules) - known):
            package = name.rpartition(".")[0]
            if package and package not in sys.modules and not _is_extension(name):
                sys.modules.pop(name, None)
        raise


def _is_extension(name: str) -> bool:
    from importlib.machinery import EXTENSION_SUFFIXES

    origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
    return isinstance(origin, str) and origin.endswith(tuple(EXTENSION_SUFFIXES))
