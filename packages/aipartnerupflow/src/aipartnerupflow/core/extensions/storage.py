"""The former path of `StorageExtension`."""

from apflow.core import StorageExtension

__all__ = ["StorageExtension"]
