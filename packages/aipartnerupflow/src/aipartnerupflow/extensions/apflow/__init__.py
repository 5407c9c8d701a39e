"""The former path of `apflow.executor.apflow`, which the extra `a2a` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.apflow import ApFlowApiExecutor

__all__ = ["ApFlowApiExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.apflow", __all__, extra="a2a")
