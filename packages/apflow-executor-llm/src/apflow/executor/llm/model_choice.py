"""Which model is called: the inputs, else the environment, else a default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from apflow.executor.llm.errors import LLMInputError

Json = Any

DEFAULT_PROVIDER: Final = "openai"
DEFAULT_MODELS: Final = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}
_PREFIXES = ("APFLOW_", "AIPARTNERUPFLOW_")  # of variables, the more important first


def choose_model(inputs: Mapping[str, Json], environment: Mapping[str, str]) -> str:
    """Return the model as `provider/model`.

    Raises:
        LLMInputError: a present and a former name of an input disagree, or a provider has no default model.
    """
    provider = _one_of(inputs, "provider", "llm_provider") or None
    model = _one_of(inputs, "model", "llm_model") or None
    if provider is None and model is None:
        provider, model = _variable(environment, "LLM_PROVIDER"), _variable(environment, "LLM_MODEL")
    if model is not None and ("/" in model if provider is None else model.startswith(f"{provider}/")):
        return model
    provider = provider or _variable(environment, "LLM_PROVIDER") or DEFAULT_PROVIDER
    model = model or DEFAULT_MODELS.get(provider)
    if model is None:
        raise LLMInputError(
            f"The provider {provider!r} has no default model. Give one: model, --model or APFLOW_LLM_MODEL."
        )
    return f"{provider}/{model}"


def _one_of(inputs: Mapping[str, Json], name: str, former: str) -> str | None:
    given = {inputs[each] for each in (name, former) if inputs.get(each)}
    if len(given) > 1:
        raise LLMInputError(f"{name} and {former} mean the same, but differ. Leave {former} out.")
    return given.pop() if given else None


def _variable(environment: Mapping[str, str], name: str) -> str | None:
    return next((value for prefix in _PREFIXES if (value := environment.get(prefix + name))), None)
