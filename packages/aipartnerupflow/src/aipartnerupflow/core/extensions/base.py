"""The former path of `Extension`."""

from apflow.core import Extension

__all__ = ["Extension"]
