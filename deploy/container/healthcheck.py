"""Exits with status 0 if the server in this container is healthy, and with 1 otherwise."""

import os
import sys
from urllib.request import ProxyHandler, build_opener

port = os.environ.get("APFLOW_BIND", "127.0.0.1:8000").rpartition(":")[2]
try:
    build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/health", timeout=4).close()
except OSError as error:  # HTTPError, of status 503, is one
    sys.exit(f"The server is not healthy: {error}")
