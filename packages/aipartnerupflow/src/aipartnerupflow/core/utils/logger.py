"""The former way to a logger: loggers are those of `logging`."""

import logging

__all__ = ["get_logger"]


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger of a name; None for the one of this package."""
    return logging.getLogger("aipartnerupflow" if name is None else name)
