"""The executor that calls a web service."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay

from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.net.retry_after import read_retry_after
from apflow.executor.http.errors import RestConnectionError, RestStatusError, RestTimeoutError, RestTlsError
from apflow.executor.http.exchange import Answer, exchange
from apflow.executor.http.pool import transport_for
from apflow.executor.http.request import RestRequest, read_request
from apflow.executor.http.schema import ONCE, REFUSALS, RETRIED, SCHEMA

SHOWN_BODY = 300  # characters of a body in an error

Json = Any


class RestExecutor(BaseTask):
    """Sends one request, and returns the answer."""

    id = "rest_executor"
    name = "REST"
    description = "Calls a web service by HTTP and returns status, headers and body of the answer."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Send the request.

        Raises:
            RestInputError: the inputs describe no request that may be sent.
            AddressRefusedError: the network policy forbids the address.
            RestConnectionError, RestTlsError: the server cannot be reached, or was lost.
            RestOutcomeUnknownError: it was lost, and may have acted on what must not happen twice.
            RestStatusError: its status is not one that was expected.
            RestResponseError, RestRedirectError: its answer cannot be read, or leads nowhere.
            RestTimeoutError: it took too long.
        """
        effect = self.policy_effect or ("once" if self.effect == "once" else None)
        rest, timeout = read_request(inputs, self.idempotency_key, effect), float(inputs.get("timeout", 30))
        started = time.monotonic()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                answer = await self._answer(rest, inputs, timeout)
        except TimeoutError as error:
            if limit.expired():
                sent = rest.sending.bytes_written if rest.is_outcome_unknown else 0
                raise RestTimeoutError(rest.http.method, rest.shown_url, timeout, sent) from error
            raise
        return _result(answer, time.monotonic() - started)

    async def _answer(self, rest: RestRequest, inputs: Mapping[str, Json], timeout: float) -> Answer:
        """Return the first answer that is as expected."""
        retry: Mapping[str, Json] = ONCE if inputs.get("retry") is None else inputs["retry"]
        most = retry.get("max_attempts", 3)
        if most == 1:
            return await _once(rest, inputs)
        statuses = frozenset(retry.get("on_status", RETRIED if rest.is_repeatable else REFUSALS))
        attempts = AsyncRetrying(
            stop=stop_after_attempt(most) | stop_before_delay(timeout),
            wait=lambda state: _wait(state, retry),
            retry=retry_if_exception(lambda error: _may_pass(error, rest, statuses)),
            reraise=True,
        )
        return await attempts(_once, rest, inputs)


async def _once(rest: RestRequest, inputs: Mapping[str, Json]) -> Answer:
    before = rest.sending.bytes_written
    transport = await transport_for(inputs.get("verify", True))
    answer = await exchange(
        transport,
        rest,
        follows=inputs.get("follow_redirects", True),
        max_bytes=inputs.get("max_response_bytes", 1 << 20),
    )
    if not _is_expected(answer.response.status_code, inputs.get("expect_status")):
        body = _text(answer)
        shown = rest.redacted(body) if isinstance(body, str) else ""
        shown = shown if len(shown) <= SHOWN_BODY else f"{shown[:SHOWN_BODY]}..."
        wait = read_retry_after(answer.response.headers.get("retry-after"), datetime.now(UTC))
        rest.sending.bytes_written = before  # the outcome of what was sent since then is known
        refused = RestStatusError(answer.method, answer.url, answer.response.status_code, shown, wait)
        refused.is_redirected = answer.method != rest.http.method
        raise refused
    return answer


def _is_expected(status: int, expected: int | list[int] | None) -> bool:
    if expected is None:
        return 200 <= status <= 299
    return status == expected if isinstance(expected, int) else status in expected


def _may_pass(error: BaseException, rest: RestRequest, statuses: frozenset[int]) -> bool:
    """Return whether the same request may be sent again, and might be answered then."""
    if isinstance(error, RestStatusError):
        # A POST that was answered with a redirect to its result has been acted on.
        is_permitted = rest.is_repeatable or not (rest.sending.is_once or error.is_redirected)
        return is_permitted and error.status_code in statuses
    if isinstance(error, RestTlsError):
        return False
    return isinstance(error, RestConnectionError) and (rest.is_repeatable or not error.was_sent)


def _wait(state: RetryCallState, retry: Mapping[str, Json]) -> float:
    """Return the seconds until the next attempt: what the server asks for, or a growing time with jitter."""
    longest = retry.get("max_delay", 30)
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, RestStatusError) and error.retry_after is not None:
        return float(min(longest, error.retry_after))
    grown = retry.get("delay", 0.5) * retry.get("backoff", 2) ** (state.attempt_number - 1)
    return float(min(longest, grown) * random.uniform(0.5, 1))  # noqa: S311 - so that callers do not meet


def _result(answer: Answer, elapsed: float) -> dict[str, Json]:
    response = answer.response
    return {
        "url": answer.url,
        "status_code": response.status_code,
        "headers": dict(response.headers),
        "body": _text(answer),
        "json": answer.body.json() if _is_json(response) else None,
        "success": True,
        "method": answer.method,
        "elapsed": round(elapsed, 6),
    }


def _text(answer: Answer) -> str | dict[str, str]:
    return answer.body.text(answer.response.charset_encoding)


def _is_json(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return not kind or kind.endswith(("/json", "+json"))
