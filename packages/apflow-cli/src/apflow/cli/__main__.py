"""`python -m apflow.cli`."""

import sys

from apflow.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
