"""The account of calls of language models: what every executor that calls models reports to.

`model_call()` describes a call before it is made. Entering its context reserves what the call may use from
the budgets of the task, and leaving it charges what the call used. Code outside of a task may use it, too:
nothing is reserved then, and observers see the call all the same.

```python
async with model_call(ModelRequest(model="gpt-4o", input_tokens=900, max_output_tokens=500)) as call:
    answer = await client.chat(..., max_tokens=call.max_output_tokens)
    call.record(ModelUsage(input_tokens=900, output_tokens=42, cost_usd=0.003))
```
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from apflow.core.concurrency.completion import finish
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.model_account import (
    EndedModelCall,
    ModelAnswer,
    ModelCalls,
    ModelRequest,
    Reservation,
)
from apflow.core.extensions.running_call import current_call
from apflow.core.model.task import Json, utc_now
from apflow.core.model.usage import ModelUsage
from apflow.core.settings import get_settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
WAKE_UP_SECONDS = 0.25


class ModelCall:
    """One call of a model: a context manager for `async with` and, in threads, for `with`.

    Attributes:
        max_output_tokens: once the context is entered, the limit for the tokens of the answer that must be
            sent with the call; None: no limit.
    """

    def __init__(self, request: ModelRequest, account: ModelCalls | None) -> None:
        self.request = request
        self.max_output_tokens = request.max_output_tokens
        self._account = account
        self._reservation: Reservation | None = None
        self._usage: ModelUsage | None = None
        self._answer = ModelAnswer()
        self._began_at: datetime | None = None
        self._began = 0.0

    def record(self, usage: ModelUsage, answer: ModelAnswer | None = None) -> None:
        """Record what the call has used so far; a later record replaces it.

        A call that ends without a record counts as one call without tokens.
        """
        self._usage = usage
        self._answer = answer or self._answer

    async def begin(self) -> None:
        """Reserve what the call may use. Entering the context does it, unless it was done before.

        Raises:
            BudgetExceededError, ModelPriceUnknownError: see `ModelCalls.reserve`.
        """
        if self._began_at is not None:
            return
        if self._account is not None:
            self._reservation = await _in_loop_of(self._account, self._account.reserve(self.request))
            self.max_output_tokens = self._reservation.max_output_tokens
        self._began_at, self._began = utc_now(), time.monotonic()

    async def end(self, error: BaseException | None = None) -> None:
        """Charge what was recorded. Leaving the context does it."""
        if self._began_at is None:
            return
        began_at, self._began_at = self._began_at, None
        seconds = time.monotonic() - self._began
        usage = self._usage or ModelUsage()
        if _observers:
            _notify(self._ended(began_at, seconds, usage, error))
        account, reservation = self._account, self._reservation
        if account is None or reservation is None:
            return
        settling = account.settle(reservation, self.request, usage, seconds)
        await finish(_in_loop_of(account, settling), "apflow:settle")

    async def __aenter__(self) -> ModelCall:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        del kind, where
        await self.end(error)

    def __enter__(self) -> ModelCall:
        self._block(self.begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        del kind, where
        self._block(self.end(error))

    def _block(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the event loop of the run, and block the thread meanwhile."""
        if self._account is None:
            _run_at_once(coroutine)
            return
        if _is_running_here(self._account.loop):
            coroutine.close()
            raise InvalidInputError(
                "`with model_call(...)` was used on the event loop, which it would block. "
                "Use `async with`: `with` is for code in threads."
            )
        _wait_in_thread(asyncio.run_coroutine_threadsafe(coroutine, self._account.loop))

    def _ended(
        self, began_at: datetime, seconds: float, usage: ModelUsage, error: BaseException | None
    ) -> EndedModelCall:
        account, request, answer = self._account, self.request, self._answer
        is_shown = get_settings().trace_model_content
        masked = _unchanged if account is None else account.masked
        request = replace(request, messages=masked(request.messages) if is_shown else None)
        answer = replace(answer, messages=masked(answer.messages) if is_shown else None)
        return EndedModelCall(
            request=request,
            answer=answer,
            usage=usage,
            began_at=began_at,
            seconds=seconds,
            error_type=None if error is None else type(error).__name__,
            task=None if account is None else account.task,
            root=None if account is None else account.root,
        )


def model_call(request: ModelRequest) -> ModelCall:
    """Return the context of a call of a model, on the account of the task whose code calls this."""
    running = current_call.get()
    is_live = running is not None and running.is_live
    return ModelCall(request, running.model_calls if running is not None and is_live else None)


Observe = Callable[[EndedModelCall], object]
_observers: list[Observe] = []


@contextmanager
def observing_model_calls(observe: Observe) -> Generator[None]:
    """Call `observe` with each call of a model that ends in this process. It must not block."""
    _observers.append(observe)
    try:
        yield
    finally:
        _observers.remove(observe)


def _unchanged(value: Json) -> Json:
    return value


def _notify(ended: EndedModelCall) -> None:
    for observe in tuple(_observers):
        try:
            observe(ended)
        except Exception:
            logger.exception("A call of a model could not be recorded.")


def _run_at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()


def _wait_in_thread(work: Future[None]) -> None:
    """Wait for work of an event loop. Wake up sometimes: a thread that only waits cannot be interrupted."""
    try:
        while not work.done():
            with suppress(TimeoutError):
                work.result(timeout=WAKE_UP_SECONDS)
    except BaseException:
        work.cancel()
        raise
    work.result()


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _in_loop_of(account: ModelCalls, coroutine: Coroutine[Any, Any, T]) -> T:
    if asyncio.get_running_loop() is account.loop:
        return await coroutine
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, account.loop))
