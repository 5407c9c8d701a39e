"""One call of one model: plain, or as a stream.

Errors are raised without LiteLLM's as their cause: its messages may repeat a key, and causes are part of the
traceback that is stored with a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apflow.core.errors import ApflowError
from apflow.core.permissions.origin import current_origin
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
from apflow.executor.llm.request import Message, Prices, Target
from apflow.executor.llm.usage import Usage, read_usage

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
    """

    library: LiteLLM
    parameters: Mapping[str, Json]
    is_stream: bool
    first_token_timeout: float | None
    prices: Prices | None
    user_id: str | None
    received: Received
    on_text: Callable[[], None]

    async def call(
        self, target: Target, messages: list[Message], response_format: dict[str, Json] | None
    ) -> Answer:
        """Call a model once. Nothing is repeated.

        Raises:
            LLMError: there is no answer, or a part of it only.
            AddressRefusedError, HostNotFoundError, SecretHostRefusedError: see `apflow.core.net.connect`.
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
        self.received.text, self.received.model, self.received.messages = "", target.model, messages
        try:
            answer = await (
                self._stream(target, arguments) if self.is_stream else self._plain(target, arguments)
            )
        except LLMCallError as error:
            error.args = tuple(without_keys(str(each), [key]) for each in error.args)
            raise
        self.received.messages = []
        self.received.usage += answer.usage
        return answer

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


def _delta(chunk: Any) -> Any:
    return chunk.choices[0].delta if chunk.choices else None


def _has_token(chunk: Any) -> bool:
    """Return whether a piece of a stream holds text, thinking or a call of a tool."""
    delta = _delta(chunk)
    return any(getattr(delta, name, None) for name in ("content", "tool_calls", "reasoning_content"))


def _tool_call(call: Any) -> dict[str, Json]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}
