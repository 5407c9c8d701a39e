"""The former path of the extension registry."""

from apflow.core import ExtensionRegistry, get_registry

__all__ = ["ExtensionRegistry", "get_registry"]
