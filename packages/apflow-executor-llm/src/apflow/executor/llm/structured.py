"""Answers that are JSON: parsed leniently, validated strictly, and sent back while they are not valid."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from apflow.executor.llm.answer_json import NoJsonError, faults_of, parse_leniently
from apflow.executor.llm.call import Answer
from apflow.executor.llm.errors import LLMAnswerInvalidError, LLMRequestError
from apflow.executor.llm.request import AnswerFormat, Message

Json = Any
# Called with messages and the response format of the provider, or None.
Ask = Callable[[list[Message], dict[str, Json] | None], Awaitable[Answer]]

INSTRUCTION = "Answer with one JSON value only: no explanation, no code fence."
BAD_REQUEST = (400, 422)  # the statuses by which providers refuse a parameter
MAX_SENT_BACK = 20_000  # characters of an answer that is sent back


@dataclass(frozen=True)
class JsonAnswer:
    """The last answer, and the JSON in it; None if the model calls tools instead."""

    answer: Answer
    value: Json
    calls: int


async def ask_for_json(
    ask: Ask, messages: list[Message], wanted: AnswerFormat, max_repairs: int, *, is_native: bool
) -> JsonAnswer:
    """Return a valid answer.

    Without the provider's native mode, the first call describes the format in the system message. An answer
    that is not valid goes back to the model with its faults, and the provider's native mode is switched on.

    Args:
        ask: makes a call.
        max_repairs: how often an answer is sent back.
        is_native: whether the provider is known to have a native mode for such answers.

    Raises:
        LLMAnswerInvalidError: no answer was valid.
        LLMError: a call failed.
    """
    described = describe(messages, wanted)
    exchange: list[Message] = []  # the answers that were sent back
    native, may_switch = (wanted.native, False) if is_native else (None, True)
    calls = 0
    while True:
        first = messages if is_native and native else described
        try:
            answer = await ask([*first, *exchange], native)
        except LLMRequestError as error:
            if native is None or error.status_code not in (None, *BAD_REQUEST):
                raise
            native, may_switch = None, False  # the provider does not know the format
            continue
        calls += 1
        value, faults = _read(answer, wanted)
        if not faults:
            return JsonAnswer(answer, value, calls)
        if calls > max_repairs:
            raise LLMAnswerInvalidError(answer.model, calls, answer.content, faults)
        exchange += sent_back(answer.content, faults)
        native = wanted.native if may_switch else native


def _read(answer: Answer, wanted: AnswerFormat) -> tuple[Json, list[str]]:
    """Return the JSON of an answer, and what is wrong with it."""
    if answer.tool_calls:
        return None, []
    if answer.finish_reason == "length":
        return None, ["answer: is cut off, because it reached the maximum number of tokens"]
    try:
        value = parse_leniently(answer.content)
    except NoJsonError as error:
        return None, [f"answer: {error}"]
    faults = [] if wanted.is_any_json else faults_of(value, wanted.schema)
    return value, faults or (wanted.check(value) if wanted.check is not None else [])


def describe(messages: list[Message], wanted: AnswerFormat) -> list[Message]:
    """Return messages with an instruction about the format of the answer."""
    instruction = wanted.instruction or INSTRUCTION
    if wanted.schema is not None and wanted.instruction is None:
        instruction += f" It must satisfy this JSON Schema:\n{json.dumps(wanted.schema.json_schema)}"
    if messages[0]["role"] == "system" and isinstance(messages[0].get("content"), str):
        first = messages[0] | {"content": f"{messages[0]['content']}\n\n{instruction}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": instruction}, *messages]


def sent_back(content: str, faults: list[str]) -> list[Message]:
    """Return the messages that send an answer back with its faults."""
    listed = "\n".join(f"- {fault}" for fault in faults[:20])
    return [
        {"role": "assistant", "content": content[:MAX_SENT_BACK] or "(empty)"},
        {
            "role": "user",
            "content": f"This answer is not valid:\n{listed}\n\nAnswer again, with the corrected JSON only.",
        },
    ]
