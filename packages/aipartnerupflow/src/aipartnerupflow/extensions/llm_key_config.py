"""The former manager of the keys of users for providers of language models."""

from __future__ import annotations

from apflow.core.service import llm_keys

__all__ = ["LLMKeyConfigManager"]


class LLMKeyConfigManager:
    """Keys in the memory of this process. All instances show the same ones; `llm_executor` uses them.

    The provider is "openai" where it is left out.
    """

    def set_key(self, user_id: str | None, api_key: str, provider: str | None = None) -> None:
        """Store the key of a user, in place of the previous one.

        Args:
            user_id: the user; None for tasks without a user.
            api_key: the key.
            provider: LiteLLM's name of the provider; None for "openai".

        Raises:
            InvalidInputError: the key is empty or too long, or too many keys are stored.
        """
        llm_keys.set_llm_key(user_id, provider or "openai", api_key)

    def get_key(self, user_id: str | None, provider: str | None = None) -> str | None:
        """Return the key of a user; None if none is stored."""
        return llm_keys.llm_key(user_id, provider or "openai")

    def has_key(self, user_id: str | None, provider: str | None = None) -> bool:
        """Return whether a key of the user is stored."""
        return self.get_key(user_id, provider) is not None

    def delete_key(self, user_id: str | None, provider: str | None = None) -> bool:
        """Delete the key of a user; return whether there was one."""
        return llm_keys.delete_llm_key(user_id, provider or "openai")
