"""The former path of `StreamingCallbacks`."""

from apflow.core.manager import StreamingCallbacks

__all__ = ["StreamingCallbacks"]
