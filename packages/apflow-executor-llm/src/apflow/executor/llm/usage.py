"""Counting tokens and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from apflow.core.model.usage import ModelUsage
from apflow.executor.llm.library import LiteLLM
from apflow.executor.llm.request import Message, Prices

Json = Any


@dataclass(frozen=True)
class Usage:
    """Tokens of one or several calls, and their cost in US dollars; None where a price is not known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # a part of prompt_tokens
    reasoning_tokens: int = 0  # a part of completion_tokens
    cost_usd: float | None = 0.0
    is_estimated: bool = False  # counted here, because the provider sent no usage

    def __add__(self, other: Usage) -> Usage:
        """Return the sum. Its cost is unknown if one of the costs is."""
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
            self.is_estimated or other.is_estimated,
        )

    def as_model_usage(self) -> ModelUsage:
        """Return the usage as the account of the task takes it."""
        return ModelUsage(
            input_tokens=self.prompt_tokens,
            output_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
            cost_usd=self.cost_usd,
            is_estimated=self.is_estimated,
        )

    def as_json(self) -> dict[str, Json]:
        """Return the counts as they are in results."""
        shown: dict[str, Json] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cached_tokens": self.cached_tokens,
        }
        if self.reasoning_tokens:
            shown["reasoning_tokens"] = self.reasoning_tokens
        return shown | ({"is_estimated": True} if self.is_estimated else {})


def read_usage(library: LiteLLM, reported: Any, model: str, prices: Prices | None) -> Usage:
    """Return the usage that LiteLLM reports, with its cost.

    Args:
        reported: LiteLLM's `Usage`.
        model: the model as the task names it.
        prices: those that the task gives; LiteLLM's price list where it gives none.
    """
    usage = Usage(
        prompt_tokens=reported.prompt_tokens or 0,
        completion_tokens=reported.completion_tokens or 0,
        cached_tokens=_detail(reported, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(reported, "completion_tokens_details", "reasoning_tokens"),
    )
    cost = _cost(usage, prices) if prices is not None else _listed_cost(library, reported, model)
    return replace(usage, cost_usd=cost)


def estimate_usage(
    library: LiteLLM, model: str, messages: list[Message], text: str, prices: Prices | None
) -> Usage:
    """Count tokens here, for a call that ended before the provider reported them. It takes milliseconds."""
    prompt = library.token_counter(model=model, messages=messages)
    completion = library.token_counter(model=model, text=text) if text else 0
    reported = library.Usage(prompt_tokens=prompt, completion_tokens=completion)
    return replace(read_usage(library, reported, model, prices), is_estimated=True)


def count_tokens(
    library: LiteLLM, model: str, messages: list[Message], tools: list[Json] | None = None
) -> int:
    """Count the tokens of a prompt here. It takes milliseconds."""
    return int(library.token_counter(model=model, messages=messages, tools=tools))


def cost_of(
    library: LiteLLM, model: str, prompt_tokens: int, completion_tokens: int, prices: Prices | None
) -> float | None:
    """Return the price of tokens in US dollars, None if it is not known."""
    reported = library.Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    return read_usage(library, reported, model, prices).cost_usd


def _cost(usage: Usage, prices: Prices) -> float:
    fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
    cached = usage.cached_tokens * prices.cached_input
    return fresh * prices.input + cached + usage.completion_tokens * prices.output


def _listed_cost(library: LiteLLM, reported: Any, model: str) -> float | None:
    """Return the cost by LiteLLM's price list; None for a model that it does not have."""
    try:
        return float(sum(library.cost_per_token(model=model, usage_object=reported)))
    except Exception:  # noqa: BLE001 - it raises bare exceptions for models without prices
        return None


def _detail(reported: Any, group: str, name: str) -> int:
    return getattr(getattr(reported, group, None), name, None) or 0
