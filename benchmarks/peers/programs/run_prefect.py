"""Prefect: a flow whose tasks are submitted, with its own server on loopback and SQLite."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

from shapes import timed

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = str(free.getsockname()[1])
URL = f"http://127.0.0.1:{PORT}/api"
os.environ["PREFECT_API_URL"] = URL  # prefect reads it when it is imported

from prefect import flow, task  # noqa: E402


@task(persist_result=True)
def nothing(*_: int) -> int:
    """Return a small result."""
    return 1


@flow(persist_result=True)
def tree(shape: str, size: int) -> int:
    """Submit the tasks: each needs the one before, or the last needs all."""
    if shape == "fan":
        futures = [nothing.submit() for _ in range(size)]
        last = nothing.submit(*futures)
        return sum(each.result() for each in futures) + last.result()
    futures = [nothing.submit()]
    while len(futures) < size:
        futures.append(nothing.submit(futures[-1]))
    return sum(each.result() for each in futures)


def wait_until_ready() -> None:
    """Return when the server answers."""
    for _ in range(600):
        try:
            with urlopen(f"{URL}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    sys.exit("the server of Prefect does not answer")


command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", PORT]
with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
    try:
        wait_until_ready()
        timed("prefect", tree)
    finally:
        server.terminate()
