"""A real nginx for tests, on a free port of the loopback address, with the files of `deploy/nginx`."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from peers import required

FILES = Path(__file__).resolve().parents[2] / "deploy" / "nginx"
START_SECONDS = 30.0

CONFIGURATION = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx.log info;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/apflow-map.conf;
    server {{
        listen 127.0.0.1:{port};
        include {folder}/apflow.conf;
    }}
}}
"""


def program() -> str:
    """Return the path of nginx. Skip the test where it is not installed; fail it in CI."""
    return required.program("nginx")


@contextmanager
def nginx_before(folder: Path, server_url: str, port: int) -> Generator[str]:
    """Run nginx before a server, and yield the URL of the server behind it."""
    for name in ("apflow.conf", "apflow-map.conf"):
        text = (FILES / name).read_text()
        (folder / name).write_text(text.replace("http://127.0.0.1:8000", server_url))
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, user=user))
    process = subprocess.Popen(
        [program(), "-e", f"{folder}/nginx.log", "-c", str(configuration), "-p", str(folder)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port, process, folder)
        yield f"http://127.0.0.1:{port}/apflow"
    finally:
        process.terminate()  # without waiting for connections
        try:
            process.wait(20)
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"nginx does not start:\n{(folder / 'nginx.log').read_text()}")
        time.sleep(0.02)
