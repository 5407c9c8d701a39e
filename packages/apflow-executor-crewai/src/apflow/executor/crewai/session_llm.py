"""The language model that agents of CrewAI have: calls go through `apflow-executor-llm`.

Keys, retries, budgets, usage and cancellation are in one place. This module imports CrewAI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from crewai import BaseLLM
from pydantic import BaseModel, PrivateAttr

from apflow.executor.crewai.session import CrewSession
from apflow.executor.llm.structured import JsonAnswer

Json = Any

_OF_A_MESSAGE = ("role", "content", "name", "tool_calls", "tool_call_id")


class SessionLLM(BaseLLM):
    """A model of a crew that runs. Make one by `session_llm`."""

    _session: CrewSession = PrivateAttr()
    _inputs: Mapping[str, Json] = PrivateAttr()

    def call(
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,  # noqa: ARG002
        available_functions: dict[str, Any] | None = None,
        from_task: Any = None,  # noqa: ARG002
        from_agent: Any = None,  # noqa: ARG002
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Return the answer: a string, a list of calls of tools, or an instance of `response_model`.

        Raises:
            Stopped: the run was stopped, or the call failed.
            LLMRequestError: the model refuses the request.
        """
        inputs = {**self._inputs, "messages": _messages(messages)}
        if tools:
            inputs["tools"] = [dict(tool) for tool in tools]
        if response_model is not None:
            inputs["response_format"] = _format_of(response_model)
        answered = self._session.ask(inputs)
        if isinstance(answered, JsonAnswer):
            if response_model is not None and not answered.answer.tool_calls:
                return response_model.model_validate(answered.value)
            answered = answered.answer
        if not answered.tool_calls:
            return answered.content
        result = _first_result(answered.tool_calls, available_functions)
        return answered.tool_calls if result is None else result

    def supports_function_calling(self) -> bool:
        """Return true: tools are offered to the model, which calls them by the provider's protocol."""
        return True

    def supports_stop_words(self) -> bool:
        """Return false: many models refuse them, and calls of tools need none."""
        return False


def session_llm(session: CrewSession, inputs: Mapping[str, Json]) -> SessionLLM:
    """Return a model that is called with these inputs of `llm_executor`.

    CrewAI does not see the key and the address: it writes the fields of models into its events.
    """
    llm = SessionLLM(model=inputs["model"])
    llm._session, llm._inputs = session, inputs  # noqa: SLF001 - pydantic does not set them itself
    return llm


def _messages(given: str | list[Any]) -> list[dict[str, Json]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [{name: each[name] for name in _OF_A_MESSAGE if name in each} for each in given]


def _format_of(model: type[BaseModel]) -> dict[str, Json]:
    described = {"name": model.__name__, "schema": model.model_json_schema()}
    return {"type": "json_schema", "json_schema": described}


def _first_result(
    calls: list[dict[str, Json]], functions: Mapping[str, Callable[..., Any]] | None
) -> str | None:
    """Return the result of the first called function; None if CrewAI calls the functions itself."""
    for call in calls if functions else ():
        function = (functions or {}).get(call["function"]["name"])
        if function is not None:
            return str(function(**json.loads(call["function"]["arguments"] or "{}")))
    return None
