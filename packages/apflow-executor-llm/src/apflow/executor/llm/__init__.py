"""The executor `llm_executor`: calls language models."""

from __future__ import annotations

from apflow.executor.llm.connection import close_connections
from apflow.executor.llm.errors import (
    LLMAnswerInvalidError,
    LLMAuthenticationError,
    LLMCallError,
    LLMConnectionError,
    LLMContentError,
    LLMError,
    LLMInputError,
    LLMRateLimitError,
    LLMRequestError,
    LLMResponseError,
    LLMServerError,
    LLMStreamError,
    LLMTimeoutError,
)
from apflow.executor.llm.executor import LLMExecutor

__all__ = [
    "LLMAnswerInvalidError",
    "LLMAuthenticationError",
    "LLMCallError",
    "LLMConnectionError",
    "LLMContentError",
    "LLMError",
    "LLMExecutor",
    "LLMInputError",
    "LLMRateLimitError",
    "LLMRequestError",
    "LLMResponseError",
    "LLMServerError",
    "LLMStreamError",
    "LLMTimeoutError",
    "close_connections",
]
