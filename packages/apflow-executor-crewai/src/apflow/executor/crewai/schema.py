"""The JSON Schemas of crews: what agents, tasks and their model may say."""

from __future__ import annotations

from typing import Any, Final

from apflow.executor.llm.schema import PARAMETERS
from apflow.executor.llm.schema import SCHEMA as CALL_SCHEMA

Json = Any

EXPECTED_OUTPUT: Final = "A complete answer to the task."
SEQUENTIAL: Final = "sequential"
HIERARCHICAL: Final = "hierarchical"

_CALL: Final[dict[str, Json]] = CALL_SCHEMA["properties"]
# The agent's tools are the ones that the model is offered.
_OF_THE_AGENT = ("tools", "tool_choice", "parallel_tool_calls")
OF_THE_CALL: Final = (
    "model", "api_key", "api_base", "stream", "fallback_models", "retry", "timeout", "first_token_timeout",
    "input_cost_per_token", "output_cost_per_token", "cached_input_cost_per_token",
    *(name for name in PARAMETERS if name not in _OF_THE_AGENT),
)  # fmt: skip

_TEXT: Final = {"type": "string", "minLength": 1}
_TOOLS: Final = {"type": "array", "items": _TEXT}

LLM: Final[dict[str, Json]] = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "properties": {"provider": _TEXT, **{name: _CALL[name] for name in OF_THE_CALL}},
            "additionalProperties": False,
        },
    ]
}

# The options of an agent that CrewAI gets unchanged. Those that would print, ask on the terminal, write files
# or connect to other addresses than the model's are not among them.
AGENT_OPTIONS: Final[dict[str, Json]] = {
    "allow_delegation": {"type": "boolean"},
    "max_iter": {"type": "integer", "minimum": 1, "maximum": 1000},
    "respect_context_window": {"type": "boolean"},
    "inject_date": {"type": "boolean"},
    "date_format": _TEXT,
    "use_system_prompt": {"type": "boolean"},
    "system_template": _TEXT,
    "prompt_template": _TEXT,
    "response_template": _TEXT,
}
_AGENT: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "role": _TEXT,
        "goal": _TEXT,
        "backstory": {"type": "string"},
        "tools": _TOOLS,
        "llm": LLM,
        "verbose": {"type": "boolean"},  # accepted for programs that have it; nothing is printed
        **AGENT_OPTIONS,
    },
    "required": ["role", "goal"],
    "additionalProperties": False,
}
_TASK: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "description": _TEXT,
        "expected_output": _TEXT,
        "agent": _TEXT,
        "tools": _TOOLS,
        "context": {"type": "array", "items": _TEXT},
        "markdown": {"type": "boolean"},
    },
    "required": ["description"],
    "additionalProperties": False,
}


def _several(one: dict[str, Json]) -> dict[str, Json]:
    """Return the schema of a list, or of an object whose keys are the names."""
    return {
        "if": {"type": "object"},
        "then": {"minProperties": 1, "additionalProperties": one},
        "else": {"type": "array", "minItems": 1, "items": one},
    }


CREW: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "agents": _several(_AGENT),
        "tasks": _several(_TASK),
        "process": {"enum": [SEQUENTIAL, HIERARCHICAL]},
        "llm": LLM,
    },
    "required": ["agents", "tasks"],
    "additionalProperties": False,
}
BATCH: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "works": {"type": "object", "minProperties": 1, "additionalProperties": CREW},
        "llm": LLM,
    },
    "required": ["works"],
    "additionalProperties": False,
}

# The inputs of a task: whatever the placeholders of its crews name.
INPUTS: Final[dict[str, Json]] = {"type": "object", "properties": {}}
