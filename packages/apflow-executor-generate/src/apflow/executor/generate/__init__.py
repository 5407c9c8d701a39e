"""The executor `generate_executor`: makes trees of tasks from requirements, with a language model."""

from __future__ import annotations

from apflow.executor.generate.executor import GenerateExecutor

__all__ = ["GenerateExecutor"]
