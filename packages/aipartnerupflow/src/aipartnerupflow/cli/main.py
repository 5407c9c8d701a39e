"""The former path of the command line as an object: a click group, with every installed command."""

import sys

from apflow.cli import main
from apflow.cli.program import program as app

__all__ = ["app", "main"]

if __name__ == "__main__":
    sys.exit(main())
