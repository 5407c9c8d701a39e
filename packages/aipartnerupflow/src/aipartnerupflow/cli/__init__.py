"""The former path of the command line."""

from apflow.cli import main

__all__ = ["main"]
