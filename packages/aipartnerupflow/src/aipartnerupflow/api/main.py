"""The former path of the server as a program: `python -m aipartnerupflow.api.main`."""

from __future__ import annotations

import sys

from apflow.server import create_app
from apflow.server.command import main

__all__ = ["create_app", "main"]

if __name__ == "__main__":
    sys.exit(main())
