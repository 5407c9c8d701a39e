"""One call of one model: plain, or as a stream.

Errors are raised without LiteLLM's as their cause: its messages may repeat a key, and causes are part of the
traceback that is stored with a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from apflow.core.errors import ApflowError
from apflow.core.extensions.model_account import ModelAnswer, ModelRequest
from apflow.core.extensions.model_calls import ModelCall, model_call
from apflow.core.model.usage import ModelUsage
from apflow.core.permissions.origin import current_origin
from apflow.core.settings import get_settings
from apflow.executor.llm.connection import http_handler
from apflow.executor.llm.errors import (
    FIRST_TOKEN,
    LLMCallError,
    LLMResponseError,
    LLMStreamError,
    LLMTimeoutError,
)
from apflow.executor.llm.failure import failure_of
from apflow.executor.llm.keys import key_for, without_keys
from apflow.executor.llm.library import LiteLLM
from apflow.executor.llm.providers import check_unguarded, provider_of
from apflow.executor.llm.request import Message, Prices, Target, output_limit
from apflow.executor.llm.usage import Usage, cost_of, count_tokens, estimate_usage, read_usage

logger = logging.getLogger(__name__)

Json = Any


@dataclass(frozen=True)
class Answer:
    """What a model answered."""

    model: str  # as the task names it
    provider_model: str  # as the provider names it
    content: str
    tool_calls: list[dict[str, Json]]
    finish_reason: str | None
    usage: Usage


@dataclass
class Received:
    """What has been received of the calls so far, for progress and for a cancellation in the middle."""

    text: str = ""  # of the current call
    model: str = ""  # of the current call
    messages: list[Message] = field(default_factory=list[Message])  # of the current call; empty: none is open
    usage: Usage = field(default_factory=Usage)  # of the calls that have ended


@dataclass(frozen=True)
class Caller:
    """Calls models for one task.

    Args:
        library: LiteLLM.
        parameters: sent to each model unchanged.
        is_stream: whether answers are received as streams.
        first_token_timeout: seconds until the first token of a stream.
        prices: those that the task gives.
        user_id: the user for whom the task runs.
        received: updated while an answer is received.
        on_text: called after each piece of a stream.
        paused: returns a context in which the time of the task does not count: the call waits for a budget.
    """

    library: LiteLLM
    parameters: Mapping[str, Json]
    is_stream: bool
    first_token_timeout: float | None
    prices: Prices | None
    user_id: str | None
    received: Received
    on_text: Callable[[], None]
    paused: Callable[[], AbstractContextManager[object]] = nullcontext

    async def call(
        self, target: Target, messages: list[Message], response_format: dict[str, Json] | None
    ) -> Answer:
        """Call a model once. Nothing is repeated.

        Raises:
            LLMError: there is no answer, or a part of it only.
            AddressRefusedError, HostNotFoundError, SecretHostRefusedError: see `apflow.core.net.connect`.
            BudgetExceededError, ModelPriceUnknownError: see `apflow.core.extensions.model_calls`.
        """
        provider = provider_of(self.library, target.model, target.api_base)
        await check_unguarded(provider, target.api_base)
        key = key_for(provider.name, target.api_key, target.api_base, self.user_id, current_origin())
        arguments: dict[str, Json] = {
            **self.parameters,
            "model": target.model,
            "messages": [dict(each) for each in messages],
            "api_key": key,
            "api_base": target.api_base,
            # Repeating is done in one place, `attempts`. The clients below LiteLLM would repeat, too.
            "num_retries": 0,
            "max_retries": 0,
        }
        if provider.takes_handler:
            arguments["client"] = http_handler()
        if response_format is not None:
            arguments["response_format"] = response_format
        accounted = model_call(self._request(target, provider.name, messages))
        with self.paused():
            await accounted.begin()
        if accounted.max_output_tokens is not None and output_limit(self.parameters) is None:
            arguments["max_tokens"] = accounted.max_output_tokens
        async with accounted:
            try:
                return await self._answered(target, arguments, accounted)
            except LLMCallError as error:
                error.args = tuple(without_keys(str(each), [key]) for each in error.args)
                raise

    async def _answered(self, target: Target, arguments: dict[str, Json], accounted: ModelCall) -> Answer:
        """Make a call, and record on the account what it used."""
        received = self.received
        received.text, received.model, received.messages = "", target.model, arguments["messages"]
        try:
            answer = await (
                self._stream(target, arguments) if self.is_stream else self._plain(target, arguments)
            )
        except BaseException:
            if received.messages:  # it has begun, and the provider has reported no usage
                accounted.record(self._estimated(target))
            raise
        received.messages = []
        received.usage += answer.usage
        reason = [answer.finish_reason] if answer.finish_reason else []
        shown = {"role": "assistant", "content": answer.content, "tool_calls": answer.tool_calls}
        accounted.record(
            answer.usage.as_model_usage(),
            ModelAnswer(model=answer.provider_model, finish_reasons=reason, messages=[shown]),
        )
        return answer

    def _estimated(self, target: Target) -> ModelUsage:
        """Return what has been received of the current call, counted here."""
        received = self.received
        try:
            used = estimate_usage(self.library, target.model, received.messages, received.text, self.prices)
        except Exception:
            logger.exception("The tokens of a call of %s could not be counted.", target.model)
            return ModelUsage(cost_usd=None, is_estimated=True)
        return used.as_model_usage()

    def _request(self, target: Target, provider: str, messages: list[Message]) -> ModelRequest:
        """Describe a call for the account of the task."""
        return ModelRequest(
            model=target.model,
            provider=provider,
            input_tokens=partial(
                count_tokens, self.library, target.model, messages, self.parameters.get("tools")
            ),
            max_output_tokens=output_limit(self.parameters),
            usual_output_tokens=_usual(self.parameters),
            cost=partial(cost_of, self.library, target.model, prices=self.prices),
            parameters=self.parameters,
            messages=messages,
            address=target.api_base,
        )

    async def _plain(self, target: Target, arguments: dict[str, Json]) -> Answer:
        try:
            response = await self.library.acompletion(**arguments)
        except Exception as error:  # noqa: BLE001 - LiteLLM raises errors of many libraries
            self.received.messages = []
            raise failure_of(error, target.model) from None
        return self._answer(target, response)

    async def _stream(self, target: Target, arguments: dict[str, Json]) -> Answer:
        chunks: list[Any] = []
        limit = asyncio.timeout(self.first_token_timeout)
        try:
            async with limit:
                stream = await self.library.acompletion(
                    **arguments, stream=True, stream_options={"include_usage": True}
                )
                try:
                    async for chunk in stream:
                        chunks.append(chunk)
                        if self._take(chunk):
                            limit.reschedule(None)
                            self.on_text()
                finally:
                    await stream.aclose()
        except TimeoutError as error:
            if not limit.expired():
                raise
            self.received.messages = []
            assert self.first_token_timeout is not None
            raise LLMTimeoutError(target.model, FIRST_TOKEN, self.first_token_timeout) from error
        except Exception as error:  # noqa: BLE001 - LiteLLM raises errors of many libraries
            raise self._broken(error, target, chunks) from None
        return self._answer(target, self.library.stream_chunk_builder(chunks, messages=arguments["messages"]))

    def _take(self, chunk: Any) -> bool:
        """Add a piece of a stream to the text; return whether it holds a token."""
        self.received.text += getattr(_delta(chunk), "content", None) or ""
        return _has_token(chunk)

    def _broken(self, error: Exception, target: Target, chunks: list[Any]) -> ApflowError:
        failure = failure_of(error, target.model)
        if not any(map(_has_token, chunks)):
            self.received.messages = []
            return failure
        if not isinstance(failure, LLMCallError):
            return failure
        return LLMStreamError(target.model, failure.cause, self.received.text)

    def _answer(self, target: Target, response: Any) -> Answer:
        if response is None or not response.choices:
            raise LLMResponseError(target.model, "the answer has no choices")
        choice = response.choices[0]
        return Answer(
            model=target.model,
            provider_model=response.model or target.model,
            content=choice.message.content or "",
            tool_calls=[_tool_call(each) for each in choice.message.tool_calls or ()],
            finish_reason=choice.finish_reason,
            usage=read_usage(self.library, response.usage, target.model, self.prices),
        )


def _usual(parameters: Mapping[str, Json]) -> int | None:
    """Return the limit for an answer with thinking under a budget; None for the usual limit."""
    thinking: Mapping[str, Json] = parameters.get("thinking") or {}
    tokens = thinking.get("budget_tokens")
    return tokens + get_settings().budget_output_tokens if isinstance(tokens, int) else None


def _delta(chunk: Any) -> Any:
    return chunk.choices[0].delta if chunk.choices else None


def _has_token(chunk: Any) -> bool:
    """Return whether a piece of a stream holds text, thinking or a call of a tool."""
    delta = _delta(chunk)
    return any(getattr(delta, name, None) for name in ("content", "tool_calls", "reasoning_content"))


def _tool_call(call: Any) -> dict[str, Json]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}
