"""The former path of `apflow.executor.generate`, which the extra `llm` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.generate import GenerateExecutor

__all__ = ["GenerateExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.generate", __all__, extra="llm")
