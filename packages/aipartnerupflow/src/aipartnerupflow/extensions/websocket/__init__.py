"""The former path of `apflow.executor.websocket`, which the extra `websocket` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.websocket import WebSocketExecutor

__all__ = ["WebSocketExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.websocket", __all__, extra="websocket")
