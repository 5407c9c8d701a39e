"""LiteLLM, imported when the first call needs it: the import takes seconds and hundreds of megabytes.

LiteLLM does things when it is imported that a library should not do. They are switched off here: it fetches
a price list from the Internet, reads `.env` from the working directory into the environment, and writes log
records and advice to standard output.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from apflow.core.errors import PluginError

LiteLLM = Any  # the module; it has no usable types

_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
# Read by LiteLLM while it is imported. A value that the user has set is kept.
_AT_IMPORT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}

_lock = threading.Lock()
_loaded: list[LiteLLM] = []


async def litellm() -> LiteLLM:
    """Return LiteLLM. The first call imports it in a thread.

    Raises:
        LiteLLMMissingError: LiteLLM cannot be imported.
    """
    return _loaded[0] if _loaded else await asyncio.to_thread(load)


class LiteLLMMissingError(PluginError):
    """LiteLLM cannot be imported."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"LiteLLM cannot be imported: {cause}. Install it: pip install apflow-executor-llm.")


def load() -> LiteLLM:
    """Import LiteLLM, and switch off what it does beside calling models."""
    with _lock:
        if not _loaded:
            for name in _LOGGERS:
                if logging.getLogger(name).level == logging.NOTSET:  # its debug records hold whole prompts
                    logging.getLogger(name).setLevel(logging.WARNING)
            with _set_in_environment():
                try:
                    import litellm as module
                except ImportError as error:
                    raise LiteLLMMissingError(str(error)) from error
            _quieten(module)
            _loaded.append(module)
    return _loaded[0]


def _quieten(module: LiteLLM) -> None:
    from apflow.executor.llm.connection import shared_client

    module.suppress_debug_info = True  # it prints advice to standard output on each error
    module.telemetry = False
    for name in _LOGGERS:  # its handlers write to standard output; the program's own get the records anyway
        logging.getLogger(name).handlers.clear()
    if module.aclient_session is None:  # what every provider with OpenAI's protocol connects through
        module.aclient_session = shared_client()


@contextmanager
def _set_in_environment() -> Generator[None]:
    added = {name: value for name, value in _AT_IMPORT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
