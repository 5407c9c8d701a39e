"""CrewAI, imported when the first crew runs: the import takes seconds and hundreds of megabytes.

CrewAI does things beside running crews that a library should not do. They are switched off here: it sends
telemetry and traces, looks for updates, and writes prompts and answers to the user's data folder.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import threading

from apflow.core.process.late_import import import_late
from apflow.executor.crewai.errors import CrewAIMissingError

# Read by CrewAI when it is imported and while it runs. They replace what the user has set: nothing is sent to
# any address but the model's.
SETTINGS = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
}
# Keeps python-dotenv from reading a `.env` file into the environment while CrewAI is imported.
NO_DOTENV = "PYTHON_DOTENV_DISABLED"
# Where CrewAI keeps the answers of the latest crew. A value that the user has set is kept.
STORAGE = "CREWAI_STORAGE_DIR"

_lock = threading.Lock()
_is_loaded = False


async def load_crewai() -> None:
    """Import CrewAI. The first call does so in a thread.

    Raises:
        CrewAIMissingError: CrewAI cannot be imported.
    """
    if not _is_loaded:
        await asyncio.to_thread(load)


def load() -> None:
    """Import CrewAI, and switch off what it does beside running crews."""
    global _is_loaded
    with _lock:
        if _is_loaded:
            return
        os.environ.update(SETTINGS)
        if STORAGE not in os.environ:
            folder = os.environ[STORAGE] = tempfile.mkdtemp(prefix="apflow-crewai-")
            atexit.register(_remove, folder, os.getpid())
        was_disabled = os.environ.get(NO_DOTENV)
        os.environ[NO_DOTENV] = "true"
        try:
            import_late("crewai")
        except ImportError as error:
            raise CrewAIMissingError(str(error)) from error
        finally:
            os.environ.pop(NO_DOTENV)
            if was_disabled is not None:
                os.environ[NO_DOTENV] = was_disabled
        _is_loaded = True


def _remove(folder: str, process: int) -> None:
    """Remove a folder, unless this is a process that was forked from the one that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
