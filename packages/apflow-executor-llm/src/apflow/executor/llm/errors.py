"""What can go wrong with a model call. The class name becomes the `error_type` of the task."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.errors import ExecutorError

MAX_SHOWN = 300  # characters of a model's answer in an error


class LLMError(ExecutorError):
    """A model call failed."""

    is_transient = False  # the same call may succeed later


class LLMInputError(LLMError):
    """The inputs do not describe a model call. Nothing was sent."""


class LLMCallError(LLMError):
    """A call of one model failed.

    `model` is the model as the task names it, `status_code` the HTTP status of the answer, or None.
    """

    advice = ""

    def __init__(self, model: str, cause: str, status_code: int | None = None) -> None:
        status = f" (status {status_code})" if status_code is not None else ""
        super().__init__(f"{model}: {cause.rstrip('.')}{status}.{self.advice and ' ' + self.advice}")
        self.model, self.cause, self.status_code = model, cause, status_code


class LLMAuthenticationError(LLMCallError):
    """The provider does not accept the key, or there is none."""

    advice = (
        'Give the key as api_key ({"$secret": NAME}), store it with config.llm_key.set, or set the '
        "environment variable of the provider."
    )


class LLMRequestError(LLMCallError):
    """The provider refuses the request: an unknown model, an unsupported parameter, too long a prompt."""


class LLMContentError(LLMCallError):
    """A content filter of the provider refuses the prompt or the answer."""


class LLMRateLimitError(LLMCallError):
    """The provider's rate limit is exceeded. `retry_after`: the seconds that it asks to wait, or None."""

    is_transient = True

    def __init__(self, model: str, cause: str, status_code: int | None, retry_after: float | None) -> None:
        super().__init__(model, cause, status_code)
        self.retry_after = retry_after
        if retry_after is not None:
            self.args = (f"{self.args[0]} The provider asks to wait {retry_after:g} s.",)


class LLMServerError(LLMCallError):
    """The provider failed."""

    is_transient = True


class LLMConnectionError(LLMCallError):
    """No connection was made, or it was lost before the answer."""

    is_transient = True


class LLMResponseError(LLMCallError):
    """The answer is not in the provider's format."""


class LLMStreamError(LLMCallError):
    """The connection was lost in the middle of a stream.

    `received` is the text until then. The call is not repeated: its tokens are paid for, and subscribers have
    seen them.
    """

    def __init__(self, model: str, cause: str, received: str) -> None:
        super().__init__(model, f"the stream broke off after {len(received)} characters: {cause}")
        self.received = received


class LLMTimeoutError(LLMCallError):
    """The answer was not complete in time, or its first token did not arrive in time."""

    def __init__(self, model: str, what: str, seconds: float) -> None:
        super().__init__(model, f"{what} took longer than {seconds:g} s")
        self.seconds = seconds
        self.is_transient = what != WHOLE


WHOLE = "the call (timeout)"
FIRST_TOKEN = "the first token (first_token_timeout)"  # noqa: S105 - not a password


class LLMAnswerInvalidError(LLMError):
    """The answer never became valid JSON, or never satisfied the schema.

    `answer` is the last answer, `violations` what is wrong with it.
    """

    def __init__(self, model: str, calls: int, answer: str, violations: Sequence[str]) -> None:
        shown = answer if len(answer) <= MAX_SHOWN else f"{answer[:MAX_SHOWN]}..."
        super().__init__(
            f"{model}: no valid answer after {calls} calls: {'; '.join(violations[:5])}. Last answer: {shown}"
        )
        self.model, self.calls, self.answer, self.violations = model, calls, answer, list(violations)
