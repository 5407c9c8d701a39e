"""The former path of the executors of `apflow-executor-crewai`: `CrewManager` and `BatchManager`."""

from importlib import import_module
from typing import Any

_NAMES = ("BatchManager", "CrewManager", "CrewaiExecutor")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        package = import_module("apflow.executor.crewai")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} is in apflow-executor-crewai. Install it, with Python 3.11 to 3.13: "
            "pip install aipartnerupflow[crewai]."
        ) from error
    return getattr(package, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
