"""The executor that generates trees of tasks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from apflow.core.extensions.description import describe_executors
from apflow.core.extensions.executor import InputsSchema
from apflow.core.settings import get_settings
from apflow.executor.generate.check import faults_of, tasks_of
from apflow.executor.generate.prompt import Executor, messages_for
from apflow.executor.generate.schema import MAX_TOKENS, OF_THE_CALL, SCHEMA, TEMPERATURE
from apflow.executor.llm import LLMExecutor, LLMInputError
from apflow.executor.llm.model_choice import choose_model
from apflow.executor.llm.request import AnswerFormat, ChatRequest, read_request
from apflow.executor.llm.schema import MAX_REPAIRS, TIMEOUT
from apflow.executor.llm.structured import JsonAnswer

Json = Any

INSTRUCTION = 'Answer with {"tasks": [...]} only: no explanation, no code fence.'


class GenerateExecutor(LLMExecutor):
    """Asks a language model for an array of tasks, until the array is a valid tree. It runs none of them."""

    id = "generate_executor"
    name = "Generate"
    description = (
        "Generates a tree of tasks from a requirement in words, with a language model; runs nothing."
    )
    inputs_schema: ClassVar[InputsSchema] = SCHEMA

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return `{status, tasks, count, model, calls, token_usage, cost_usd}`.

        Raises:
            LLMInputError: the inputs do not describe a call, or name executors that are not usable.
            LLMAnswerInvalidError: no answer was a valid tree.
            LLMError: a call failed; see `LLMExecutor.execute`.
        """
        found = await asyncio.to_thread(describe_executors)  # imports the executors, which takes long
        executors = usable(found, inputs.get("executors"), without=self.id)
        request = _request(inputs, executors)
        answered = await self.answer(request, float(inputs.get("timeout") or TIMEOUT))
        assert isinstance(answered, JsonAnswer)  # the request has an answer format
        tasks = tasks_of(answered.value) or []
        owner = inputs.get("user_id")
        return {
            "status": "completed",
            "tasks": [task | ({"user_id": owner} if owner else {}) for task in tasks],
            "count": len(tasks),
            "model": answered.answer.model,
            "calls": answered.calls,
            "token_usage": self.usage.as_json(),
            "cost_usd": self.usage.cost_usd,
        }


def usable(found: Sequence[Executor], wanted: Sequence[str] | None, without: str) -> list[Executor]:
    """Return the executors that generated tasks may use.

    Args:
        found: every executor, as `describe_executors` returns them.
        wanted: the ids that the task names; None: all that are usable.
        without: an id that is left out unless it is named.

    Raises:
        LLMInputError: a named executor is not usable, or none is.
    """
    by_id = {each["id"]: each for each in found if each["is_usable"]}
    names = [name for name in by_id if name != without] if wanted is None else list(wanted)
    missing = [name for name in names if name not in by_id]
    if missing or not names:
        what = f"not usable here: {', '.join(missing)}" if missing else "no executor is usable here"
        raise LLMInputError(f"executors: {what}. `apflow executors list` shows which are.")
    return [by_id[name] for name in names]


def _request(inputs: Mapping[str, Json], executors: Sequence[Executor]) -> ChatRequest:
    schemas = {each["id"]: each["input_schema"] for each in executors}
    settings = get_settings()
    call: dict[str, Json] = {
        "model": choose_model(inputs, os.environ),
        "messages": messages_for(inputs["requirement"], executors),
        "temperature": inputs.get("temperature", TEMPERATURE),
        "max_tokens": inputs.get("max_tokens", MAX_TOKENS),
        "max_repairs": inputs.get("max_repairs", MAX_REPAIRS),
        **{name: inputs[name] for name in OF_THE_CALL if inputs.get(name) is not None},
    }
    # Without a native mode of the provider: the form of the inputs differs from task to task.
    wanted = AnswerFormat(
        native=None,
        schema=None,
        check=lambda value: faults_of(value, schemas, settings),
        instruction=INSTRUCTION,
        is_any_json=True,
    )
    return read_request(call, wanted)
