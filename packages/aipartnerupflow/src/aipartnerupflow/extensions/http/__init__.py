"""The former path of `apflow.executor.http`, which the extra `http` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.http import RestExecutor

__all__ = ["RestExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.http", __all__, extra="http")
