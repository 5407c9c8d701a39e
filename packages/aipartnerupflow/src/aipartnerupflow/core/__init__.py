"""The former path of `apflow.core`: everything of the top level, imported on first use as there."""

from typing import TYPE_CHECKING, Any

import aipartnerupflow

if TYPE_CHECKING:
    from aipartnerupflow import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]

__all__: list[str] = []
__all__ += aipartnerupflow.__all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(aipartnerupflow, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
