"""The answers of a language model, in the wire formats of OpenAI and Anthropic. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Any

OPENAI = "openai"
ANTHROPIC = "anthropic"


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool that the model asks for."""

    name: str
    arguments: Mapping[str, Json] = field(default_factory=dict[str, Json])
    id: str = "call_1"


@dataclass(frozen=True)
class Reply:
    """One answer of the model.

    Attributes:
        text: the text of the answer.
        tool_calls: the calls of tools that the model asks for.
        finish_reason: "stop", "tool_calls" or "length"; by default what fits the rest of the answer.
        status: the HTTP status. From 400 on, the answer is an error with `text` as its message.
        headers: additional headers, such as `Retry-After`.
        prompt_tokens, completion_tokens, cached_tokens: the usage. `cached_tokens` are a part of
            `prompt_tokens`; `completion_tokens` is by default the number of pieces.
        first_after: seconds before the first byte of the body.
        between: seconds between two pieces of a stream.
        cut_after: the number of pieces of a stream after which the connection is dropped; for an answer
            that is not a stream, any number drops the connection before the answer.
        hang_after: the number of pieces after which nothing more is sent; the connection stays open until
            the client closes it.
        body: bytes that are sent as the body, in place of a well-formed answer.
    """

    text: str = "Hello from the model."
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    prompt_tokens: int = 10
    completion_tokens: int | None = None
    cached_tokens: int = 0
    first_after: float = 0.0
    between: float = 0.0
    cut_after: int | None = None
    hang_after: int | None = None
    body: bytes | None = None

    @property
    def pieces(self) -> list[str]:
        """The text in the pieces in which a stream sends it: words with the space that follows."""
        words = self.text.split(" ")
        return [f"{word} " for word in words[:-1]] + ([words[-1]] if words[-1] else [])

    @property
    def output_tokens(self) -> int:
        """The number of tokens of the answer."""
        if self.completion_tokens is not None:
            return self.completion_tokens
        return len(self.pieces) + sum(len(call.arguments) + 1 for call in self.tool_calls)

    @property
    def reason(self) -> str:
        """Why the answer ends, in OpenAI's words."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


def whole(wire: str, reply: Reply, model: str) -> dict[str, Json]:
    """Return the body of an answer that is not a stream."""
    if reply.status >= 400:
        return _error(wire, reply)
    return _openai(reply, model) if wire == OPENAI else _anthropic(reply, model)


def stream(wire: str, reply: Reply, model: str, *, with_usage: bool) -> Iterator[bytes]:
    """Yield the server-sent events of an answer: first one that opens it, then its pieces, then the end."""
    return _openai_stream(reply, model, with_usage) if wire == OPENAI else _anthropic_stream(reply, model)


def _error(wire: str, reply: Reply) -> dict[str, Json]:
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        reply.status, "invalid_request_error" if reply.status < 500 else "api_error"
    )
    error: dict[str, Json] = {"message": reply.text, "type": kind}
    if wire == OPENAI:
        return {"error": error | {"code": None, "param": None}}
    return {"type": "error", "error": error}


def _openai(reply: Reply, model: str) -> dict[str, Json]:
    message: dict[str, Json] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [_openai_call(call) for call in reply.tool_calls]
    choice = {"index": 0, "message": message, "finish_reason": reply.reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "service_tier": "default",
        "usage": _openai_usage(reply),
    }


def _openai_call(call: ToolCall) -> dict[str, Json]:
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
    return {"id": call.id, "type": "function", "function": function}


def _openai_usage(reply: Reply) -> dict[str, Json]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def _openai_stream(reply: Reply, model: str, with_usage: bool) -> Iterator[bytes]:
    def chunk(delta: Mapping[str, Json], reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": dict(delta), "finish_reason": reason}]
        return _data({**_chunk(model), "choices": choices})

    yield chunk({"role": "assistant", "content": ""})
    for piece in reply.pieces:
        yield chunk({"content": piece})
    for number, call in enumerate(reply.tool_calls):
        yield chunk({"tool_calls": [{"index": number, **_openai_call(call)}]})
    end = chunk({}, reply.reason)
    if with_usage:
        end += _data({**_chunk(model), "choices": [], "usage": _openai_usage(reply)})
    yield end + b"data: [DONE]\n\n"


def _chunk(model: str) -> dict[str, Json]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}


def _data(value: Json) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _anthropic(reply: Reply, model: str) -> dict[str, Json]:
    content: list[Json] = [{"type": "text", "text": reply.text}] if reply.text else []
    content += [_anthropic_call(call) | {"input": dict(call.arguments)} for call in reply.tool_calls]
    return _message(model) | {
        "content": content,
        "stop_reason": _stop_reason(reply),
        "usage": _anthropic_usage(reply) | {"output_tokens": reply.output_tokens},
    }


def _message(model: str) -> dict[str, Json]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}


def _anthropic_call(call: ToolCall) -> dict[str, Json]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _stop_reason(reply: Reply) -> str:
    return {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}.get(
        reply.reason, "end_turn"
    )


def _anthropic_usage(reply: Reply) -> dict[str, Json]:
    # Anthropic does not count cached tokens as input tokens.
    return {
        "input_tokens": reply.prompt_tokens - reply.cached_tokens,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }


def _anthropic_stream(reply: Reply, model: str) -> Iterator[bytes]:
    content: list[Json] = []
    opening = _message(model) | {"content": content, "stop_reason": None, "usage": _anthropic_usage(reply)}
    started = _event("message_start", message=opening)
    block = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield started + (block if reply.pieces else b"")
    for piece in reply.pieces:
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    end = _event("content_block_stop", index=0) if reply.pieces else b""
    for number, call in enumerate(reply.tool_calls, 1 if reply.pieces else 0):
        text = json.dumps(dict(call.arguments))
        yield end + _event(
            "content_block_start", index=number, content_block=_anthropic_call(call) | {"input": {}}
        )
        yield _event(
            "content_block_delta", index=number, delta={"type": "input_json_delta", "partial_json": text}
        )
        end = _event("content_block_stop", index=number)
    delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
    usage = {"output_tokens": reply.output_tokens}
    yield end + _event("message_delta", delta=delta, usage=usage) + _event("message_stop")


def _event(kind: str, **content: Json) -> bytes:
    return f"event: {kind}\n".encode() + _data({"type": kind, **content})
