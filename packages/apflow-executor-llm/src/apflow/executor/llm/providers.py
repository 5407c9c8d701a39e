"""Which provider serves a model, and how its connections are guarded.

LiteLLM has several ways to connect. Two of them take a client from us, which connects only where the network
policy permits: providers with OpenAI's protocol use `litellm.aclient_session`, and the providers in
`BY_HANDLER` the `client` of the call. The others connect by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from apflow.core.errors import ApflowError
from apflow.core.net.connect import resolve
from apflow.core.permissions.origin import current_origin
from apflow.executor.llm.errors import LLMInputError
from apflow.executor.llm.library import LiteLLM

BY_HANDLER = frozenset(
    {
        "anthropic", "bedrock", "databricks", "deepseek", "fireworks_ai", "gemini", "groq", "hosted_vllm",
        "huggingface", "mistral", "ollama", "ollama_chat", "openrouter", "together_ai", "xai",
    }
)  # fmt: skip
BY_SESSION = frozenset(
    {"openai", "azure", "custom_openai", "deepinfra", "perplexity", "nvidia_nim", "cerebras"}
)


@dataclass(frozen=True)
class Provider:
    """Who serves a model: LiteLLM's name of the provider, and how it connects."""

    name: str
    takes_handler: bool
    is_guarded: bool


def provider_of(library: LiteLLM, model: str, api_base: str | None) -> Provider:
    """Return the provider of a model.

    Raises:
        LLMInputError: no provider is known for it.
    """
    try:
        name = str(library.get_llm_provider(model=model, api_base=api_base)[1])
    except Exception as error:
        raise LLMInputError(
            f"model {model!r} names no provider that is known. Write it as provider/model, such as "
            "openai/gpt-4o, anthropic/claude-sonnet-4-5 or ollama_chat/llama3. A server with OpenAI's "
            "protocol is openai/NAME with its api_base."
        ) from error
    takes_handler = name in BY_HANDLER
    is_guarded = takes_handler or name in BY_SESSION
    return Provider(name, takes_handler, is_guarded)


async def check_unguarded(provider: Provider, api_base: str | None) -> None:
    """Refuse what cannot be guarded while it is connected to.

    Raises:
        LLMInputError: a client of the server wrote the tree, and names where to connect to, or a secret is
            bound to hosts.
        AddressRefusedError, HostNotFoundError: the network policy forbids the address.
    """
    if provider.is_guarded:
        return
    origin = current_origin()
    if origin is not None and any(each.hosts is not None for each in origin.permissions.values()):
        raise LLMInputError(
            f"The provider {provider.name} connects by itself, so a secret that is granted for certain hosts "
            "only cannot be used with it. Grant the secret without hosts, or use another provider."
        )
    if api_base is None:
        return
    if origin is not None and origin.is_remote:
        raise LLMInputError(
            f"api_base cannot be given for the provider {provider.name}, which connects by itself. "
            "Use a server with OpenAI's protocol (openai/NAME)."
        )
    url = urlsplit(api_base)
    try:
        await resolve(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    except ApflowError:
        raise
    except ValueError as error:
        raise LLMInputError(f"api_base {api_base!r} is not a valid URL: {error}.") from error
