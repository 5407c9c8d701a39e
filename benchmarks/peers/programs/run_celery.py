"""Celery: signatures for one worker process, with broker and results in SQLite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from celery import chain, chord
from celery_tasks import nothing
from shapes import timed


def run(shape: str, size: int) -> int:
    """Send the signatures, and wait for the last result."""
    if shape == "fan":
        last = chord([nothing.si() for _ in range(size)])(nothing.s())
        return size + last.get(interval=0.01, timeout=600)
    result = chain([nothing.s() for _ in range(size)]).apply_async()
    result.get(interval=0.01, timeout=600)
    done = 0
    while result is not None:
        done += result.get(timeout=60)
        result = result.parent
    return done


command = ["-m", "celery", "--app", "celery_tasks", "worker", "--pool", "solo", "--loglevel", "ERROR"]
programs = str(Path(__file__).parent)
with subprocess.Popen([sys.executable, *command], env={"PYTHONPATH": programs}) as worker:
    try:
        timed("celery", run)
    finally:
        worker.terminate()
