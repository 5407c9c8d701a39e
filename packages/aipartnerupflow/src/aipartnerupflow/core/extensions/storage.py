"""The former path of `StorageExtension`, and of its other name."""

from apflow.core import StorageExtension
from apflow.core import StorageExtension as StorageBackend

__all__ = ["StorageBackend", "StorageExtension"]
