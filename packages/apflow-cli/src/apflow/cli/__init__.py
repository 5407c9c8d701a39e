"""The command line of apflow."""

from apflow.cli.program import main

__all__ = ["main"]
