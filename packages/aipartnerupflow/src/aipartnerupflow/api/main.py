"""The former path of the server as a program: `python -m aipartnerupflow.api.main`."""

import sys

from aipartnerupflow.api.app import create_app, create_runnable_app
from apflow.server.command import main

__all__ = ["create_app", "create_runnable_app", "main"]

if __name__ == "__main__":
    sys.exit(main())
