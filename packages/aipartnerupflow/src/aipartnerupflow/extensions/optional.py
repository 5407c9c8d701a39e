"""Names of packages that an extra installs: imported on first use, with advice where they are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

__all__ = ["optional_names"]


def optional_names(module: str, package: str, names: Sequence[str], *, extra: str) -> Callable[[str], Any]:
    """Return the `__getattr__` (PEP 562) of a module that re-exports names of a package.

    Args:
        module: the module that gets the function.
        package: the package that has the names.
        names: what is re-exported.
        extra: the extra of this distribution that installs the package.

    Returns:
        A function that raises `AttributeError` for other names, and `ImportError` with the command that
        installs the package where it is missing.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        try:
            found = import_module(package)
        except ModuleNotFoundError as error:
            distribution = package.replace(".", "-").replace("_", "-")
            raise ImportError(
                f"{name} is in {distribution}, which is not installed or lacks {error.name}. "
                f"Install it, from the folder or the wheel that this package came from: "
                f"pip install 'aipartnerupflow[{extra}]'."
            ) from error
        return getattr(found, name)

    return get
