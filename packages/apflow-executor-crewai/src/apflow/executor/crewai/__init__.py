"""The executors `crewai_executor` and `batch_crewai_executor`: run crews of CrewAI agents.

Importing this package imports neither CrewAI nor LiteLLM. The first run does.
"""

from __future__ import annotations

from apflow.executor.crewai.batch_manager import BatchManager
from apflow.executor.crewai.crew_manager import CrewManager
from apflow.executor.crewai.errors import CrewAIMissingError, CrewFailedError

CrewaiExecutor = CrewManager

__all__ = ["BatchManager", "CrewAIMissingError", "CrewFailedError", "CrewManager", "CrewaiExecutor"]
