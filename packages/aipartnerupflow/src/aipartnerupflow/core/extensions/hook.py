"""The former base class of hooks that are registered as extensions."""

from apflow.core import Extension, ExtensionCategory

__all__ = ["HookExtension"]


class HookExtension(Extension):
    """An extension of the category HOOK. Functions are registered by `register_pre_hook` and its siblings."""

    category = ExtensionCategory.HOOK
