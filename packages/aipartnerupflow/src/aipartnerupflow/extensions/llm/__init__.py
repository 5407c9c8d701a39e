"""The former path of `apflow.executor.llm`, which the extra `llm` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.llm import LLMExecutor

__all__ = ["LLMExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.llm", __all__, extra="llm")
