"""From the inputs of a task to the calls that it may make. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from apflow.core.errors import ValidationError
from apflow.core.payload.json_value import dumps
from apflow.core.payload.schema import InputSchema, compile_schema
from apflow.executor.llm.errors import LLMInputError
from apflow.executor.llm.schema import MAX_REPAIRS, PARAMETERS, RETRY

Json = Any
Message = dict[str, Json]

# Members of a request that limit the tokens of an answer; providers name them differently.
OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# What the executor itself puts into a request. `n` would be paid for: only the first answer is read.
NOT_IN_EXTRA_BODY: Final = ("model", "messages", "stream", "stream_options", "n")


@dataclass(frozen=True)
class Target:
    """A model to call, and where. `api_key` is the one that the task names."""

    model: str
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Retry:
    """How often and when a call is repeated. Times are in seconds."""

    max_attempts: int
    delay: float
    backoff: float
    max_delay: float

    def wait(self, attempt: int) -> float:
        """Return the longest wait after an attempt, which is counted from 1."""
        return min(self.max_delay, self.delay * self.backoff ** (attempt - 1))


@dataclass(frozen=True)
class Prices:
    """US dollars per token."""

    input: float
    output: float
    cached_input: float


@dataclass(frozen=True)
class AnswerFormat:
    """The JSON that the answer must be.

    Attributes:
        native: the `response_format` of the provider's native mode; None: do not use it.
        schema: what the answer must satisfy; None: any object is valid.
        check: returns what else is wrong with an answer.
        instruction: the instruction about the format for the model; None: the usual one.
        is_any_json: whether an answer without a schema may be anything, not only an object.
    """

    native: dict[str, Json] | None
    schema: InputSchema | None
    check: Callable[[Json], list[str]] | None = None
    instruction: str | None = None
    is_any_json: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """What a task asks for."""

    targets: tuple[Target, ...]  # the model, then those to fall back on
    messages: list[Message]
    parameters: dict[str, Json]  # sent to the model unchanged
    is_stream: bool
    answer_format: AnswerFormat | None
    max_repairs: int
    retry: Retry
    first_token_timeout: float | None
    prices: Prices | None


def read_request(inputs: Mapping[str, Json], answer_format: AnswerFormat | None = None) -> ChatRequest:
    """Return the request that inputs describe. The inputs satisfy the schema of the executor.

    Args:
        answer_format: what the answer must be; None: what the inputs say.

    Raises:
        LLMInputError: they contradict each other, or `extra_body` has a member that is not permitted there.
    """
    _check_extra_body(inputs.get("extra_body") or {})
    first = Target(inputs["model"], inputs.get("api_base"), inputs.get("api_key"))
    retry: dict[str, Json] = RETRY | (inputs.get("retry") or {})
    return ChatRequest(
        targets=(first, *(_fallback(each) for each in inputs.get("fallback_models") or ())),
        messages=_messages(inputs),
        parameters={name: inputs[name] for name in PARAMETERS if inputs.get(name) is not None},
        is_stream=bool(inputs.get("stream")),
        answer_format=answer_format or _answer_format(inputs.get("response_format")),
        max_repairs=inputs.get("max_repairs", MAX_REPAIRS),
        retry=Retry(**retry),
        first_token_timeout=inputs.get("first_token_timeout"),
        prices=_prices(inputs),
    )


def output_limit(parameters: Mapping[str, Json]) -> int | None:
    """Return the limit for the tokens of an answer: the largest, if several are given; None if there is none.

    Args:
        parameters: those of a request that was read.
    """
    body: Mapping[str, Json] = parameters.get("extra_body") or {}
    given = [parameters.get("max_tokens"), *(body.get(name) for name in OUTPUT_LIMITS)]
    return max((each for each in given if each is not None), default=None)


def _check_extra_body(body: Mapping[str, Json]) -> None:
    for name in NOT_IN_EXTRA_BODY:
        if name in body:
            advice = f"Give {name} as an input" if name in ("model", "messages", "stream") else "Leave it out"
            raise LLMInputError(f"extra_body.{name} would replace what llm_executor sends. {advice}.")
    for name in OUTPUT_LIMITS:
        limit = body.get(name)
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise LLMInputError(f"extra_body.{name} must be an integer of 1 or more, or null.")


def _fallback(given: str | Mapping[str, str]) -> Target:
    if isinstance(given, str):
        return Target(given)
    return Target(given["model"], given.get("api_base"), given.get("api_key"))


def _messages(inputs: Mapping[str, Json]) -> list[Message]:
    given, prompt = inputs.get("messages"), inputs.get("prompt")
    if (given is None) == (prompt is None):
        raise LLMInputError("Give either messages or prompt" + (", not both." if given else "."))
    messages: list[Message] = [_message(each) for each in given] if given else []
    if prompt is not None:
        messages = [{"role": "user", "content": as_text(prompt)}]
    if inputs.get("system"):
        messages.insert(0, {"role": "system", "content": inputs["system"]})
    return messages


def _message(given: Message) -> Message:
    """Return a message whose content the protocol knows; an object, such as a result, is written as JSON."""
    content = given.get("content")
    if content is None or isinstance(content, str) or _is_parts(content):
        return dict(given)
    return given | {"content": as_text(content)}


def _is_parts(content: Json) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and "type" in part for part in cast("list[Json]", content)
    )


def as_text(value: Json) -> str:
    """Return a prompt: a string unchanged, a list joined with blank lines, anything else as JSON."""
    if isinstance(value, list):
        return "\n\n".join(as_text(each) for each in cast("list[Json]", value))
    return value if isinstance(value, str) else dumps(value).decode()


def _answer_format(given: dict[str, Json] | None) -> AnswerFormat | None:
    if given is None or given["type"] == "text":
        return None
    if given["type"] == "json_object":
        return AnswerFormat(given, None)
    described: dict[str, Json] = {"name": "answer", **given["json_schema"]}
    try:
        schema = compile_schema(described["schema"])
    except ValidationError as error:
        raise LLMInputError(f"response_format.json_schema.schema: {error}") from error
    if schema is None:
        return AnswerFormat({"type": "json_object"}, None)
    return AnswerFormat({**given, "json_schema": described}, schema)


def _prices(inputs: Mapping[str, Json]) -> Prices | None:
    names = ("input_cost_per_token", "output_cost_per_token", "cached_input_cost_per_token")
    if all(inputs.get(name) is None for name in names):
        return None
    given = float(inputs.get("input_cost_per_token") or 0)
    cached = inputs.get("cached_input_cost_per_token")
    return Prices(given, float(inputs.get("output_cost_per_token") or 0), given if cached is None else cached)
