"""The JSON Schema of the inputs that describe a model call."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_CALL_SECONDS, MAX_COUNT
from apflow.core.payload.schema import NAMED_ONLY

TIMEOUT: Final = 300.0
MAX_REPAIRS: Final = 2
RETRY: Final[dict[str, Any]] = {"max_attempts": 3, "delay": 1.0, "backoff": 2.0, "max_delay": 60.0}

_PRICE: Final = {"type": "number", "minimum": 0, "maximum": 1_000_000}
_SECONDS: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_CALL_SECONDS}
_MESSAGE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {},
        "name": {"type": "string"},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": {"type": "string"},
    },
    "required": ["role"],
    "additionalProperties": False,
}
_TOOL: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "description": {"type": "string"},
                "parameters": {"type": "object"},
                "strict": {"type": "boolean"},
            },
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}

# Sent to the model unchanged, if they are given.
PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 2, "examples": [0.2],
                    "description": "Randomness of the answer."},
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_COUNT, "examples": [1000],
                   "description": "Maximum number of tokens of the answer."},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1, "examples": [0.9],
              "description": "Share of probability that tokens are chosen from."},
    "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
             "examples": ["END"], "description": "Where the model stops: a string, or several."},
    "seed": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1, "examples": [7],
             "description": "Seed of the randomness."},
    "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2, "examples": [0.5],
                         "description": "Penalty for tokens that occur already."},
    "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2, "examples": [0.5],
                          "description": "Penalty for tokens by how often they occur already."},
    "tools": {"type": "array", "items": _TOOL, "minItems": 1,
              "examples": [[{"type": "function", "function": {
                  "name": "weather", "description": "The weather in a city.",
                  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]],
              "description": "Functions that the model may call. Its calls are in the result "
              "(`tool_calls`); they are not executed."},
    "tool_choice": {"anyOf": [{"enum": ["auto", "none", "required"]}, {"type": "object"}],
                    "examples": ["auto"], "description": "Whether and which tool the model must call."},
    "parallel_tool_calls": {"type": "boolean", "examples": [False],
                            "description": "Whether the model may call several tools at once."},
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max"],
                         "examples": ["low"], "description": "How much a reasoning model thinks."},
    "thinking": {"type": "object", "examples": [{"type": "enabled", "budget_tokens": 1024}],
                 "description": "Anthropic's setting of extended thinking."},
    "user": {"type": "string", "examples": ["user-17"],
             "description": "An identifier of the end user, for the provider's abuse detection."},
    "service_tier": {"type": "string", "examples": ["flex"], "description": "The provider's service tier."},
    "extra_headers": {"type": "object", "additionalProperties": {"type": "string"},
                      "examples": [{"OpenAI-Beta": "assistants=v2"}],
                      "description": "Additional headers of the request."},
    "extra_body": {"type": "object", "examples": [{"top_k": 40}],
                   "description": "Additional members of the request, for parameters of one provider."},
    "api_version": {"type": "string", "examples": ["2025-04-01-preview"],
                    "description": "The version of the API, for Azure."},
}  # fmt: skip

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "minLength": 1,
                  "examples": ["openai/gpt-4o", "anthropic/claude-sonnet-4-5"],
                  "description": "The model, as provider/model in LiteLLM's names. A server with OpenAI's "
                  "protocol is openai/NAME with its `api_base`."},
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1,
                     "examples": [[{"role": "user", "content": "What is the capital of France?"}]],
                     "description": "The conversation, in OpenAI's format; `content` is a string or a list "
                     "of parts (`text`, `image_url`). Or give `prompt`."},
        "prompt": {"examples": ["What is the capital of France?"],
                   "description": "The user's message, in place of `messages`: a string; a list is joined "
                   "with blank lines, and a value that is not a string is written as JSON."},
        "system": {"type": "string", "examples": ["Answer in one sentence."],
                   "description": "The system message, before the others."},
        "api_key": {"type": "string", "minLength": 1, "examples": ["from a secret"],
                    "description": "The key. Without it: the user's stored key, else the environment's."},
        "api_base": {"type": "string", "minLength": 1, "pattern": "^https?://",
                     "examples": ["http://127.0.0.1:8000/v1"],
                     "description": "The base URL of the API, if it is not the provider's own."},
        "stream": {"type": "boolean", "default": False,
                   "description": "Receive a stream, and send the text so far as progress events."},
        "response_format": {
            "anyOf": [
                {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}},
                 "required": ["type"], "additionalProperties": False},
                {"type": "object",
                 "properties": {
                     "type": {"const": "json_schema"},
                     "json_schema": {
                         "type": "object",
                         "properties": {"name": {"type": "string"}, "description": {"type": "string"},
                                        "schema": {"type": "object"}, "strict": {"type": "boolean"}},
                         "required": ["schema"], "additionalProperties": False}},
                 "required": ["type", "json_schema"], "additionalProperties": False},
            ],
            "examples": [{"type": "json_object"}, {"type": "json_schema", "json_schema": {
                "name": "city", "schema": {"type": "object", "properties": {"city": {"type": "string"}}}}}],
            "description": "The form of the answer. JSON is parsed and validated, and is in the result as "
            "`json`; an answer that is not valid is sent back to the model.",
        },
        "max_repairs": {"type": "integer", "minimum": 0, "maximum": 10, "default": MAX_REPAIRS,
                        "description": "How often an answer that is not valid JSON is sent back."},
        "fallback_models": {
            "type": "array",
            "items": {"anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "object",
                 "properties": {"model": {"type": "string", "minLength": 1},
                                "api_key": {"type": "string", "minLength": 1},
                                "api_base": {"type": "string", "pattern": "^https?://"}},
                 "required": ["model"], "additionalProperties": False}]},
            "examples": [["anthropic/claude-sonnet-4-5"]],
            "description": "Models to call, in this order, if the model fails before the first token: names, "
            "or objects with `model`, `api_key` and `api_base`.",
        },
        "retry": {
            "type": "object",
            "properties": {
                "max_attempts": {"type": "integer", "minimum": 1, "maximum": 100},
                "delay": {"type": "number", "minimum": 0, "maximum": MAX_CALL_SECONDS},
                "backoff": {"type": "number", "minimum": 1, "maximum": 100},
                "max_delay": {"type": "number", "minimum": 0, "maximum": MAX_CALL_SECONDS},
            },
            "additionalProperties": False,
            "default": RETRY,
            "examples": [{"max_attempts": 1}],
            "description": "Repeat a call after a rate limit, a failure of the server or a lost connection, "
            "if no token was received: `max_attempts` (3) per model, after `delay` (1) seconds, multiplied "
            "by `backoff` (2) each time, up to `max_delay` (60), or after what `Retry-After` says. If that "
            "is more than `max_delay`, the next model is called.",
        },
        "timeout": {**_SECONDS, "default": TIMEOUT,
                    "description": "Seconds for all of it: retries, repairs and fallback models."},
        "first_token_timeout": {**_SECONDS, "examples": [20],
                                "description": "Seconds until the first token of a call with `stream`; then "
                                "the call counts as failed."},
        "input_cost_per_token": {**_PRICE, "examples": [2.5e-06],
                                 "description": "Price of a prompt token in US dollars, for a model whose "
                                 "price is not known."},
        "output_cost_per_token": {**_PRICE, "examples": [1e-05],
                                  "description": "Price of a token of the answer in US dollars."},
        "cached_input_cost_per_token": {**_PRICE, "examples": [1.25e-06],
                                        "description": "Price of a cached prompt token in US dollars; by "
                                        "default that of a prompt token."},
        **PARAMETERS,
    },
    "required": ["model"],
    # Only the task itself may say what is sent where: no result of another task fills in what it leaves out.
    NAMED_ONLY: True,
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}  # fmt: skip
