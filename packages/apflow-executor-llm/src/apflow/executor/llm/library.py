"""LiteLLM, imported when the first call needs it: the import takes seconds and hundreds of megabytes.

LiteLLM does things beside calling models that a library should not do. They are switched off here: it
fetches its price list, a list of headers and tokenizers from the Internet, which blocks for seconds where
there is none, reads `.env` from the working directory into the environment, and writes log records and advice
to standard output.
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
from apflow.core.process.late_import import import_late

LiteLLM = Any  # the module; it has no usable types

_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
# Values that the user has set are kept. The first are read while LiteLLM is imported, the others by calls.
_AT_IMPORT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
_AT_CALLS = {"LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True"}

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
                    module = import_late("litellm")
                except ImportError as error:
                    raise LiteLLMMissingError(str(error)) from error
            for name, value in _AT_CALLS.items():
                os.environ.setdefault(name, value)
            _quieten(module)
            _loaded.append(module)
    return _loaded[0]


def _quieten(module: LiteLLM) -> None:
    from apflow.executor.llm.connection import shared_client

    module.suppress_debug_info = True  # it prints advice to standard output on each error
    module.telemetry = False
    # Counting the tokens of some models would fetch their tokenizers from Hugging Face, on the event loop and
    # without regard to the network policy. Without them, tokens are counted by the tokenizer of OpenAI.
    module.disable_hf_tokenizer_download = True
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
