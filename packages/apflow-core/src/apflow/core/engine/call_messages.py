"""What the two sides of a call tell each other, as plain JSON: errors, outcomes of trees, calls of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import cast

from apflow.core import errors
from apflow.core.errors import ApflowError, RunnerError
from apflow.core.extensions.model_account import ModelRequest, Reservation
from apflow.core.model.log import LogEntry
from apflow.core.model.results import RunOutcome
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import dumps


def error_to_json(error: BaseException) -> dict[str, Json]:
    """Return an error of apflow with its attributes; any other is sent as a `RunnerError`."""
    kind = type(error)
    if not isinstance(error, ApflowError) or getattr(errors, kind.__name__, None) is not kind:
        return {"type": RunnerError.__name__, "message": f"{kind.__name__}: {error}", "facts": {}}
    message = error.args[0] if error.args else str(error)
    facts = {name: value for name, value in vars(error).items() if _is_json(value)}
    return {"type": kind.__name__, "message": str(message), "facts": facts}


def error_from_json(data: Mapping[str, Json]) -> ApflowError:
    """Return the error that `error_to_json` described."""
    found = getattr(errors, str(data["type"]), None)
    kind = found if isinstance(found, type) and issubclass(found, ApflowError) else RunnerError
    error = kind.__new__(kind)  # `__init__` is not called, because it would build the message again
    error.args = (data["message"],)
    vars(error).update(cast("dict[str, Json]", data["facts"]))
    return error


def run_to_json(outcome: RunOutcome) -> dict[str, Json]:
    """Return the outcome of a tree with the results of its tasks."""
    tasks = [
        {"id": t.id, "key": key, "name": t.name, "root_id": t.root_id, "status": str(t.status)}
        | {"result": t.result, "error": t.error}
        for key, t in outcome.results.tasks().items()
    ]
    return {"values": dict(outcome), "tasks": tasks}


def run_from_json(data: Mapping[str, Json]) -> RunOutcome:
    """Return the outcome that `run_to_json` described."""
    tasks = {each["key"]: Task(**each) for each in cast("list[dict[str, Json]]", data["tasks"])}
    for task in tasks.values():
        task.status = TaskStatus(task.status)
    return RunOutcome(cast("dict[str, Json]", data["values"]), tasks.items)


def lines_to_json(entries: Iterable[LogEntry]) -> list[Json]:
    """Return lines of a log."""
    return [[each.timestamp.isoformat(), *each[1:]] for each in entries]


def lines_from_json(lines: Iterable[Json]) -> list[LogEntry]:
    """Return the lines that `lines_to_json` described."""
    return [LogEntry(datetime.fromisoformat(time), *rest) for time, *rest in lines]


PRICED_TOKENS = 1000  # of an answer, whose price is sent


def model_request_to_json(request: ModelRequest, input_tokens: int) -> dict[str, Json]:
    """Return what a budget needs to know of a call of a model.

    Args:
        input_tokens: the tokens of the prompt.
    """
    of_input = of_output = None
    if request.cost is not None:
        of_input, of_output = request.cost(input_tokens, 0), request.cost(0, PRICED_TOKENS)
    return {
        "model": request.model,
        "provider": request.provider,
        "operation": request.operation,
        "input_tokens": input_tokens,
        "max_output_tokens": request.max_output_tokens,
        "usual_output_tokens": request.usual_output_tokens,
        "cost_of_input": of_input,
        "cost_of_output": of_output,
    }


def model_request_from_json(data: Mapping[str, Json]) -> ModelRequest:
    """Return the call that `model_request_to_json` described; its price is linear in its tokens."""
    values = dict(data)
    of_input, of_output = values.pop("cost_of_input"), values.pop("cost_of_output")
    tokens = values["input_tokens"]

    def cost(of_prompt: int, of_answer: int) -> float | None:
        if of_input is None or of_output is None:
            return None
        share = of_prompt / tokens if tokens else 0.0
        return float(of_input * share + of_output * of_answer / PRICED_TOKENS)

    return ModelRequest(**values, cost=cost)


def reservation_to_json(reservation: Reservation) -> dict[str, Json]:
    """Return what budgets grant for a call of a model."""
    return asdict(reservation) | {"account_ids": list(reservation.account_ids)}


def reservation_from_json(data: Mapping[str, Json]) -> Reservation:
    """Return the reservation that `reservation_to_json` described."""
    return Reservation(data["id"], tuple(data["account_ids"]), data["max_output_tokens"])


def _is_json(value: object) -> bool:
    try:
        dumps(value)
    except (ApflowError, ValueError, TypeError):
        return False
    return True
