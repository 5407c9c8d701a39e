"""The executor that calls a language model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.executor.llm.attempts import answer_of
from apflow.executor.llm.call import Answer, Caller, Received
from apflow.executor.llm.errors import WHOLE, LLMTimeoutError
from apflow.executor.llm.library import LiteLLM, litellm
from apflow.executor.llm.request import ChatRequest, Message, read_request
from apflow.executor.llm.schema import SCHEMA, TIMEOUT
from apflow.executor.llm.structured import JsonAnswer, ask_for_json
from apflow.executor.llm.usage import Usage, estimate_usage

SHOWN_TEXT = 100_000  # characters of the text in a progress event
REPORT_EVERY = 0.25  # seconds between two progress events
HALF_WAY = 2000  # characters after which the progress of a stream of unknown length is a half

Json = Any


class LLMExecutor(BaseTask):
    """Sends a conversation to a language model, and returns the answer."""

    id = "llm_executor"
    name = "LLM"
    description = (
        "Calls a language model: chat, tools, JSON answers, streams; any provider that LiteLLM knows."
    )
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True

    _received: Received | None = None  # of the running call
    _library: LiteLLM | None = None
    _request: ChatRequest | None = None
    _reported_at = float("-inf")

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Call the model.

        Raises:
            LLMInputError: the inputs do not describe a call.
            LLMError: there is no answer, or no valid one; see `apflow.executor.llm.errors`.
            AddressRefusedError, HostNotFoundError: the network policy forbids the address; it does not exist.
            SecretHostRefusedError: the key is a secret that is not granted for the host.
        """
        request = read_request(inputs)
        found = await self.answer(request, float(inputs.get("timeout") or TIMEOUT))
        return _result(found, request, self.usage)

    @property
    def usage(self) -> Usage:
        """What the calls of `answer` took so far."""
        return Usage() if self._received is None else self._received.usage

    async def answer(self, request: ChatRequest, timeout: float) -> Answer | JsonAnswer:
        """Return the answer to a request: a `JsonAnswer` if it has an answer format. See `execute`.

        Args:
            timeout: seconds for all calls.
        """
        library = await litellm()
        self._received, self._library, self._request = Received(), library, request
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._ask(library, request, self._received, limit)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise LLMTimeoutError(self._received.model or request.targets[0].model, WHOLE, timeout) from error

    async def cancel(self) -> dict[str, Any]:
        """Return what has been received so far. Cancelling `execute` then closes the connection."""
        received, library, request = self._received, self._library, self._request
        if received is None or library is None or request is None:
            return {}
        usage = received.usage
        if received.messages:
            usage += await asyncio.to_thread(
                estimate_usage, library, received.model, received.messages, received.text, request.prices
            )
        partial = {"content": received.text, "model": received.model, "cost_usd": usage.cost_usd}
        return {"partial_result": partial, "token_usage": usage.as_json()}

    async def _ask(
        self, library: LiteLLM, request: ChatRequest, received: Received, limit: asyncio.Timeout
    ) -> Answer | JsonAnswer:
        caller = Caller(
            library=library,
            parameters=request.parameters,
            is_stream=request.is_stream,
            first_token_timeout=request.first_token_timeout,
            prices=request.prices,
            user_id=self.user_id,
            received=received,
            on_text=self._report,
            paused=partial(_paused, limit),
        )

        def ask(messages: list[Message], response_format: dict[str, Json] | None) -> Awaitable[Answer]:
            return answer_of(caller, request.targets, request.retry, messages, response_format)

        wanted = request.answer_format
        if wanted is None:
            return await ask(request.messages, None)
        is_native = _has_native_mode(library, request.targets[0].model)
        return await ask_for_json(ask, request.messages, wanted, request.max_repairs, is_native=is_native)

    def _report(self) -> None:
        """Send the text so far as a progress event, at most four times a second."""
        received, now = self._received, time.monotonic()
        if self.event_queue is None or received is None or now - self._reported_at < REPORT_EVERY:
            return
        self._reported_at = now
        text = received.text[-SHOWN_TEXT:]
        event: dict[str, Json] = {
            "type": "progress",
            "task_id": self.task_id,
            "progress": len(received.text) / (len(received.text) + HALF_WAY),
            "message": None,
            "data": {"content": text, "model": received.model},
        }
        self.event_queue.put_nowait(event)


@contextmanager
def _paused(limit: asyncio.Timeout) -> Generator[None]:
    """Stop the clock of a timeout while the context lasts."""
    loop, until = asyncio.get_running_loop(), limit.when()
    paused_at = loop.time()
    limit.reschedule(None)
    yield
    limit.reschedule(None if until is None else until + loop.time() - paused_at)


def _has_native_mode(library: LiteLLM, model: str) -> bool:
    try:
        return bool(library.supports_response_schema(model=model))
    except Exception:  # noqa: BLE001 - it raises bare exceptions for unknown models
        return False


def _result(found: Answer | JsonAnswer, request: ChatRequest, usage: Usage) -> dict[str, Json]:
    answer = found.answer if isinstance(found, JsonAnswer) else found
    result: dict[str, Json] = {
        "success": True,
        "content": answer.content,
        "model": answer.model,
        "provider_model": answer.provider_model,
        "token_usage": usage.as_json(),
        "cost_usd": usage.cost_usd,
        "finish_reason": answer.finish_reason,
        "tool_calls": answer.tool_calls,
        "is_stream": request.is_stream,
    }
    return result | ({"json": found.value, "calls": found.calls} if isinstance(found, JsonAnswer) else {})
