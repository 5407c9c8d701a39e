"""The JSON Schema of files of tasks, which editors use to complete and check them.

The schema accepts every file that apflow accepts. Rules between tasks, such as dependencies that must exist,
cannot be expressed in it: `check_array` checks those. A reference to a parameter is accepted in place of a
number, an object and so on, whether the file declares parameters or not.
"""

from __future__ import annotations

from typing import Any, Final, cast

from apflow.core.authoring.field_validation import READ_ONLY
from apflow.core.authoring.file_parameters import KEYWORDS, NAME_PATTERN, REFERENCE_PATTERN, TYPES
from apflow.core.bounds import (
    MAX_ATTEMPTS,
    MAX_BACKOFF,
    MAX_BUDGET,
    MAX_COUNT,
    MAX_ERROR_TYPES,
    MAX_SECONDS,
    MAX_TAG_LENGTH,
    MAX_TAGS,
)
from apflow.core.model import resources
from apflow.core.model.budget import ON_EXCEED
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.for_each import MAX_ITEMS
from apflow.core.model.limit import MAX_HELD, MAX_KEY, RATE_PATTERN
from apflow.core.model.span import SPAN
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import DEFAULT_CLEANUP_TIMEOUT, EFFECTS, TRIGGERS
from apflow.core.payload import cache_key
from apflow.core.payload.condition import MAX_LENGTH

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def tree_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12), with the custom columns of this process."""
    policy, for_each = _policy(), _for_each()
    return {
        "$schema": DIALECT,
        "title": "A tree of tasks for apflow",
        "oneOf": [
            {"type": "array", "items": {"$ref": "#/$defs/task"}, "minItems": 1},
            {
                "type": "object",
                "properties": {
                    "params": {
                        "type": ["object", "null"],
                        "description": "Parameters by name. `--set NAME=VALUE` gives their values.",
                        "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
                        "additionalProperties": {"$ref": "#/$defs/parameter"},
                    },
                    "tasks": {"type": "array", "items": {"$ref": "#/$defs/task"}, "minItems": 1},
                },
                "required": ["tasks"],
                "additionalProperties": False,
            },
            {"$ref": "#/$defs/task"},
        ],
        "$defs": {
            "task": {
                "type": "object",
                "properties": _with_references(_task_properties()),
                "required": ["name"],
                "additionalProperties": False,
            },
            "dependency": _dependency(),
            "budget": _budget(),
            "for_each": {**for_each, "properties": _with_references(for_each["properties"])},
            "policy": {**policy, "properties": _with_references(policy["properties"])},
            "parameter": _parameter(),
            "reference": {
                "type": "string",
                "pattern": REFERENCE_PATTERN,
                "description": "The value of a parameter, with its type.",
            },
        },
    }


def _parameter() -> Schema:
    described = {
        "type": {"enum": list(TYPES)},
        "description": {"type": "string", "description": "What the value is for."},
        "default": {"description": "The value without `--set`. Without a default, `--set` is required."},
        "enum": {"type": "array", "minItems": 1, "description": "All possible values."},
    }
    return {
        "type": "object",
        "description": "A JSON Schema of the value. `${params.NAME}` in a task is the value.",
        "properties": {name: described.get(name, {}) for name in KEYWORDS},
        "required": ["type"],
        "additionalProperties": False,
    }


def _with_references(properties: Schema) -> Schema:
    """Return properties that also accept a reference to a parameter, here and inside of them.

    A property that accepts any text accepts a reference, too. Those of `children` are tasks.
    """
    return {
        name: each if name == "children" else _or_reference(cast("Schema", each))
        for name, each in properties.items()
    }


def _or_reference(schema: Schema) -> Schema:
    if "properties" in schema:
        schema = {**schema, "properties": _with_references(schema["properties"])}
    types = schema.get("type", [])
    is_limited = any(key in schema for key in ("enum", "$ref")) or (types and "string" not in types)
    if not is_limited:
        return schema
    described: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    rest = {key: each for key, each in schema.items() if key not in described}
    return {**described, "anyOf": [rest, {"$ref": "#/$defs/reference"}]}


def _task_properties() -> Schema:
    read_only = {name: {"description": "Set by the engine. Ignored in a file."} for name in READ_ONLY}
    custom = {name: {"description": "A custom column."} for name in custom_fields()}
    return {
        "name": {
            "type": "string",
            "minLength": 1,
            "description": "Also names the executor, unless `params.executor_id` or `schemas.method` does.",
        },
        "id": _text("Given to all tasks of a file or to none. Without ids, unique names are the references."),
        "key": _text("What people call the task within its tree. Default: the id or, without ids, the name."),
        "label": _text("What the task is about, for people."),
        "tags": {
            "type": ["array", "null"],
            "items": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_TAG_LENGTH,
                "pattern": r'^[^,"\\]*$',
            },
            "maxItems": MAX_TAGS,
            "description": "What the task can be found by. No commas, double quotes or backslashes.",
        },
        "parent_id": _text("The task that contains this one. Does not decide the order of execution."),
        "user_id": _text("The user that the task belongs to."),
        "priority": {
            "type": ["integer", "null"],
            "default": 2,
            "description": "0 urgent, 1 high, 2 normal, 3 low. A lower number starts first.",
        },
        "dependencies": {
            "type": ["array", "null"],
            "items": {"$ref": "#/$defs/dependency"},
            "description": "The tasks that must end before this one starts.",
        },
        "inputs": _object(
            'What the executor receives. `{"$from": "ID", "path": "a.b"}` is a part of a result, '
            '`{"$run": "scheduled_at"}` the time that the run was scheduled for and, with `for_each`, '
            '`{"$item": "a.b"}` a part of the item and `{"$index": 0}` its number.'
        ),
        "params": {
            **_object("How the executor is created. `executor_id` names it."),
            "properties": {"executor_id": {"type": "string", "description": "The id of the executor."}},
        },
        "schemas": {
            **_object("The executor, and JSON Schemas of inputs and result."),
            "properties": {
                "method": {"type": ["string", "null"], "description": "The id of the executor."},
                "input_schema": {"type": ["object", "null"], "description": "A JSON Schema of `inputs`."},
                "output_schema": {"type": ["object", "null"], "description": "A JSON Schema of the result."},
            },
        },
        "policy": {"$ref": "#/$defs/policy"},
        "budget": {"$ref": "#/$defs/budget"},
        "resources": _resources(),
        "when": _when(),
        "trigger": _trigger(),
        "for_each": {"$ref": "#/$defs/for_each"},
        "status": {"enum": [*TaskStatus, None], "description": "`completed` for a task with a result."},
        "result": {"description": "The result of a task whose status is `completed`."},
        "original_task_id": _text("The task that this one is a copy of."),
        "children": {
            "type": ["array", "null"],
            "items": {"$ref": "#/$defs/task"},
            "description": "The tasks that this one contains, instead of `parent_id` in each.",
        },
        **read_only,
        **custom,
    }


def _text(description: str) -> Schema:
    return {"type": ["string", "null"], "description": description}


def _object(description: str) -> Schema:
    return {"type": ["object", "null"], "description": description}


def _dependency() -> Schema:
    required = {
        "type": "boolean",
        "default": True,
        "description": "false: the task also starts if the dependency fails, is cancelled or skipped.",
    }
    return {
        "oneOf": [
            {"type": "string", "minLength": 1, "description": "The id of the task."},
            {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "minLength": 1},
                    "name": {"type": ["string", "null"], "minLength": 1},
                    "required": _or_reference(required),
                    "type": {},
                },
                "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
                "additionalProperties": False,
            },
        ]
    }


def _policy() -> Schema:
    seconds = {"type": ["number", "null"], "minimum": 0, "maximum": MAX_SECONDS}
    return {
        "type": ["object", "null"],
        "description": "How the task runs.",
        "properties": {
            "timeout": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "maximum": MAX_SECONDS,
                "description": "Seconds for each attempt.",
            },
            "deadline": {
                "type": ["number", "string", "null"],
                "exclusiveMinimum": 0,
                "maximum": MAX_SECONDS,
                "description": "On the root: what has not ended then fails. Seconds after the run was "
                "requested, or a time in ISO 8601 with an offset.",
            },
            "cleanup_timeout": {
                **seconds,
                "default": DEFAULT_CLEANUP_TIMEOUT,
                "description": "On the root: seconds after the deadline for tasks whose trigger is `always` "
                "or `on_failure`.",
            },
            "effect": {
                "enum": [*EFFECTS, None],
                "description": "What a second run does. Default: what the executor says.",
            },
            "budget": {"$ref": "#/$defs/budget"},
            "resources": _resources(),
            "limit": _limit(),
            "cache": _cache(),
            "when": _when(),
            "trigger": _trigger(),
            "for_each": {"$ref": "#/$defs/for_each"},
            "retry": {
                "type": ["object", "null"],
                "description": "When a failed attempt is repeated.",
                "properties": {
                    "max_attempts": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_ATTEMPTS},
                    "delay": {**seconds, "description": "Seconds before the second attempt."},
                    "backoff": {
                        "type": ["number", "null"],
                        "exclusiveMinimum": 0,
                        "maximum": MAX_BACKOFF,
                        "description": "The factor by which the delay grows with each attempt.",
                    },
                    "max_delay": {**seconds, "description": "The longest delay, in seconds."},
                    "jitter": {"type": ["boolean", "null"]},
                    "on": {
                        "type": ["array", "null"],
                        "items": {"type": "string"},
                        "maxItems": MAX_ERROR_TYPES,
                        "description": "The error types that are retried. Default: all that may be.",
                    },
                },
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
    }


def _resources() -> Schema:
    name = f"^{resources.NAME_PATTERN}$"
    return {
        "type": ["object", "null"],
        "description": "What the worker that makes the call must offer: a number is an amount that the call "
        "uses, a string is a label.",
        "propertyNames": {"pattern": name},
        "additionalProperties": {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": resources.MAX_AMOUNT},
                {"type": "string", "pattern": name},
            ]
        },
        "maxProperties": resources.MAX_RESOURCES,
    }


def _cache() -> Schema:
    expression = {"type": "string", "minLength": 1, "maxLength": cache_key.MAX_LENGTH}
    return {
        "type": ["object", "null"],
        "description": "The task takes the result of a completed task that did the same, instead of calling "
        "its executor.",
        "properties": {
            "key": {
                "anyOf": [
                    {**expression, "type": ["string", "null"]},
                    {
                        "type": "array",
                        "items": expression,
                        "minItems": 1,
                        "maxItems": cache_key.MAX_EXPRESSIONS,
                    },
                ],
                "description": "What decides the result: JMESPath expressions over the inputs. Default: all "
                "inputs.",
            },
            "ttl": {
                "anyOf": [
                    {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
                    {"type": "string", "pattern": f"^{SPAN.pattern}$"},
                ],
                "description": "How old a result may be: seconds, or a span such as 90s, 12h or 7d. Default: "
                "any age.",
            },
        },
        "additionalProperties": False,
    }


def _limit() -> Schema:
    return {
        "type": ["object", "null"],
        "description": "How many tasks with the same key may start in a period and run at once, over all "
        "processes on one database.",
        "properties": {
            "key": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_KEY,
                "description": "Tasks with the same key share the limit.",
            },
            "rate": {
                "type": ["string", "null"],
                "pattern": f"^{RATE_PATTERN}$",
                "description": "Starts in a period: 50/s, 60/min, 1000/h, 5000/day or 100/10s.",
            },
            "concurrency": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MAX_HELD,
                "description": "Tasks that may run at once.",
            },
        },
        "required": ["key"],
        "additionalProperties": False,
    }


def _when() -> Schema:
    return {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": MAX_LENGTH,
        "description": "A JMESPath expression over the results of the dependencies, by their keys. "
        "If it is false, the task is skipped.",
    }


def _trigger() -> Schema:
    return {
        "enum": [*TRIGGERS, None],
        "default": TRIGGERS[0],
        "description": "on_success: the task is skipped if a required dependency is. "
        "unless_failed: it runs then, too. on_failure: it runs only if a dependency has failed. "
        "always: it runs however its dependencies end.",
    }


def _for_each() -> Schema:
    count = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_COUNT}
    return {
        "type": ["object", "null"],
        "description": "One element for each item of a list, created while the tree runs: an instance of the "
        "task, or of the tree in `tasks`.",
        "properties": {
            "items": {
                "type": ["array", "object"],
                "description": 'The list: an array, `{"$from": "TASK", "path": "rows"}` or, inside of '
                '`for_each.tasks`, `{"$item": PATH}`.',
            },
            "batch": {**count, "description": "Items of one element, which is an array of them then."},
            "max_items": {
                **count,
                "default": MAX_ITEMS,
                "description": "A longer list fails the task before anything is created.",
            },
            "max_parallel": {**count, "description": "How many elements may be in progress at once."},
            "allow_failures": {
                "type": ["number", "null"],
                "minimum": 0,
                "default": 0,
                "description": "How many elements may fail: a share below 1, or a number of elements.",
            },
            "collect": {
                "type": ["boolean", "null"],
                "default": True,
                "description": "Whether the result is the list of the results of the elements. Otherwise it "
                "counts the elements.",
            },
            "tasks": {
                "type": ["array", "null"],
                "items": {"$ref": "#/$defs/task"},
                "minItems": 1,
                "description": "The tree of an element, with exactly one root. Default: the task itself.",
            },
        },
        "required": ["items"],
        "additionalProperties": False,
    }


def _budget() -> Schema:
    number = {"type": ["number", "null"], "minimum": 0, "maximum": MAX_BUDGET}
    integer = {**number, "type": ["integer", "null"]}
    return {
        "type": ["object", "null"],
        "description": "What the calls of language models of the task, and of everything below it, may use.",
        "properties": {
            "usd": {**number, "description": "US dollars."},
            "tokens": {**integer, "description": "Tokens of prompts and answers."},
            "calls": {**integer, "description": "Calls, those that fail included."},
            "seconds": {**number, "description": "Seconds of calls, added up."},
            "on_exceed": {
                "enum": [*ON_EXCEED, None],
                "description": "What a call does that has no room: fail, or wait until the budget is raised.",
            },
        },
        "additionalProperties": False,
    }
