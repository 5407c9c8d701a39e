"""Exits with status 0 if the server in this container is healthy, and with 1 otherwise."""

import os
import sys
from urllib.request import ProxyHandler, build_opener

host, _, port = os.environ.get("APFLOW_BIND", "127.0.0.1:8000").rpartition(":")
address = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - any: loopback
try:
    build_opener(ProxyHandler({})).open(f"http://{address}:{port}/health", timeout=4).close()
except OSError as error:  # HTTPError, of status 503, is one
    sys.exit(f"The server is not healthy: {error}")
