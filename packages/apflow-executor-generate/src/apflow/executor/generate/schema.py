"""The JSON Schema of the inputs that describe a tree to be generated."""

from __future__ import annotations

from typing import Any, Final

from apflow.core.bounds import MAX_COUNT
from apflow.core.payload.schema import NAMED_ONLY
from apflow.executor.llm.schema import MAX_REPAIRS
from apflow.executor.llm.schema import SCHEMA as CALL_SCHEMA

TEMPERATURE: Final = 0.7
MAX_TOKENS: Final = 4000

# Inputs that mean the same as in a call of a model.
OF_THE_CALL: Final = ("api_key", "api_base", "fallback_models", "retry", "timeout")
_CALL: Final[dict[str, Any]] = CALL_SCHEMA["properties"]

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "requirement": {"type": "string", "minLength": 1, "maxLength": 100_000,
                        "examples": ["Fetch data from two APIs in parallel, then merge the results."],
                        "description": "What the tree must do, in words."},
        "user_id": {"type": ["string", "null"], "examples": ["ann"],
                    "description": "The user who owns the generated tasks."},
        "provider": {"type": ["string", "null"], "examples": ["anthropic"],
                     "description": "The provider of the model, in LiteLLM's names; by default "
                     "APFLOW_LLM_PROVIDER, or openai."},
        "model": {"type": ["string", "null"], "examples": ["gpt-4o", "anthropic/claude-sonnet-4-5"],
                  "description": "The model, with or without its provider; by default APFLOW_LLM_MODEL, or "
                  "a model of the provider."},
        "llm_provider": {"type": ["string", "null"], "examples": ["openai"],
                         "description": "The former name of `provider`."},
        "llm_model": {"type": ["string", "null"], "examples": ["gpt-4o"],
                      "description": "The former name of `model`."},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2, "default": TEMPERATURE,
                        "description": "Randomness of the answer."},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_COUNT, "default": MAX_TOKENS,
                       "description": "Maximum number of tokens of the answer."},
        "max_repairs": {"type": "integer", "minimum": 0, "maximum": 10, "default": MAX_REPAIRS,
                        "description": "How often tasks that are not valid are sent back to the model."},
        "executors": {"type": "array", "items": {"type": "string"}, "minItems": 1,
                      "examples": [["rest_executor", "aggregate_results_executor"]],
                      "description": "IDs of the executors that the tasks may use; by default all that are "
                      "usable here."},
        **{name: _CALL[name] for name in OF_THE_CALL},
    },
    "required": ["requirement"],
    NAMED_ONLY: True,
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}  # fmt: skip
