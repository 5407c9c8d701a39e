"""Answers servers that ask for a language model (`sampling/createMessage`), with `llm_executor`.

The setting `mcp_sampling_model` permits it and names the model: the preferences of the server are only hints.
The call is one of the task that uses the server: its budgets limit it, and its usage contains it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any, Final, cast

from apflow.core.errors import ApflowError
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.registry import executor_is_known, get_executor

METHOD: Final = "sampling/createMessage"
EXECUTOR: Final = "llm_executor"
MAX_REQUESTS: Final = 50  # of one task: a server might never stop asking
STOP_REASONS: Final = {"stop": "endTurn", "length": "maxTokens"}

Json = Any


class SamplingRefusedError(Exception):
    """A request that is not answered, and why."""


class Sampler:
    """Answers the servers of one call of an executor.

    Args:
        model: as `llm_executor` names it.
        caller: the executor whose task the calls of the model belong to.
    """

    def __init__(self, model: str, caller: ExecutableTask) -> None:
        self._model, self._caller = model, caller
        self._context = copy_context()  # of the task: the requests of a server come in another one
        self._count = 0

    async def answer(self, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return the result of a request of a server.

        Raises:
            SamplingRefusedError: the request is not answered.
        """
        self._count += 1
        if self._count > MAX_REQUESTS:
            raise SamplingRefusedError(f"The server has asked {MAX_REQUESTS} times for a language model.")
        inputs = _inputs_of(params) | {"model": self._model}
        calling = asyncio.create_task(self._call(inputs), name="apflow:mcp:sampling", context=self._context)
        try:
            found = await calling
        except ApflowError as error:
            raise SamplingRefusedError(str(error)) from error
        finally:
            calling.cancel()
        return {
            "role": "assistant",
            "content": {"type": "text", "text": found["content"] or ""},
            "model": found["model"],
            "stopReason": STOP_REASONS.get(found["finish_reason"], "endTurn"),
        }

    async def _call(self, inputs: dict[str, Json]) -> dict[str, Json]:
        if not await asyncio.to_thread(executor_is_known, EXECUTOR):
            raise SamplingRefusedError(
                "No language model: install apflow-executor-llm where the task runs, or unset "
                "APFLOW_MCP_SAMPLING_MODEL."
            )
        executor = (await asyncio.to_thread(get_executor, EXECUTOR)).make()
        executor.task_id, executor.root_task_id = self._caller.task_id, self._caller.root_task_id
        executor.user_id, executor.task_log = self._caller.user_id, self._caller.task_log
        return cast("dict[str, Json]", await executor.execute(inputs))


def _inputs_of(params: Mapping[str, Json]) -> dict[str, Json]:
    """Return a request as the inputs of `llm_executor`."""
    if params.get("tools"):
        raise SamplingRefusedError("Tools cannot be given to the language model.")
    given = cast("Sequence[Mapping[str, Json]]", params.get("messages") or ())
    inputs: dict[str, Json] = {
        "messages": [{"role": each["role"], "content": _content_of(each["content"])} for each in given],
        "max_tokens": params["maxTokens"],
    }
    names = {"systemPrompt": "system", "temperature": "temperature", "stopSequences": "stop"}
    return inputs | {to: params[name] for name, to in names.items() if params.get(name)}


def _content_of(content: Json) -> list[dict[str, Json]]:
    blocks = cast("list[dict[str, Json]]", content if isinstance(content, list) else [content])
    return [_part_of(each) for each in blocks]


def _part_of(block: Mapping[str, Json]) -> dict[str, Json]:
    match block["type"]:
        case "text":
            return {"type": "text", "text": block["text"]}
        case "image":
            url = f"data:{block['mimeType']};base64,{block['data']}"
            return {"type": "image_url", "image_url": {"url": url}}
        case kind:
            raise SamplingRefusedError(f"Content of the type {kind!r} cannot be given to the language model.")
