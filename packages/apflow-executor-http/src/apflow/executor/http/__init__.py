"""The executor `rest_executor`: calls web services."""

from __future__ import annotations

from apflow.executor.http.errors import (
    RestConnectionError,
    RestError,
    RestInputError,
    RestOutcomeUnknownError,
    RestRedirectError,
    RestResponseError,
    RestStatusError,
    RestTimeoutError,
    RestTlsError,
)
from apflow.executor.http.executor import RestExecutor
from apflow.executor.http.pool import close_connections

__all__ = [
    "RestConnectionError",
    "RestError",
    "RestExecutor",
    "RestInputError",
    "RestOutcomeUnknownError",
    "RestRedirectError",
    "RestResponseError",
    "RestStatusError",
    "RestTimeoutError",
    "RestTlsError",
    "close_connections",
]
