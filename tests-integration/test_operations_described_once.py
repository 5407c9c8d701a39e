"""The signature of a method of the service is the only description of an operation's parameters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import httpx
import pytest
from pydantic import Field
from serving import serving

from apflow.cli.inputs._generated_parameters import PARAMETERS
from apflow.client import SyncClient
from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.core.service.results import Result
from apflow.core.service.task_service import TaskService
from apflow.server.api import openapi

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = "The colour of the paint."
EVERY = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


class PaintResult(Result):
    """The paint."""

    colour: str


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The tools that generate files from the table."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    names = ("client_methods", "cli_parameters", "operations_page")
    return {name: importlib.import_module(name) for name in names}


@pytest.fixture
def painting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Operation]:
    """One more method of the service, and its row in the table."""

    async def paint(
        self: TaskService,
        *,
        colour: Annotated[Literal["red", "blue"], Field(description=DESCRIPTION)] = "red",
    ) -> dict[str, Json]:
        """Paint the tree."""
        return {"colour": colour}

    operation = Operation("tasks.paint", paint, PaintResult, "any", "change")
    monkeypatch.setattr(TaskService, "paint", paint, raising=False)
    monkeypatch.setitem(OPERATIONS, operation.name, operation)
    openapi._schemas.cache_clear()
    yield operation
    openapi._schemas.cache_clear()


def test_a_server_offers_what_the_signature_describes(painting: Operation):
    with serving() as served:
        document = httpx.get(f"{served.url}/openapi.json").json()
        request = document["paths"]["/call/tasks.paint"]["post"]["requestBody"]["content"]["application/json"]
        schema = document["components"]["schemas"][request["schema"]["$ref"].rpartition("/")[2]]
        assert schema["properties"]["colour"]["description"] == DESCRIPTION
        assert DESCRIPTION in httpx.get(f"{served.url}/docs").text
        answer = httpx.post(f"{served.url}/call/tasks.paint", json={"colour": "blue"})
        assert answer.json() == {"colour": "blue"}
        with SyncClient(served.url) as client:
            assert client.call("tasks.paint") == {"colour": "red"}
            with pytest.raises(InvalidInputError) as caught:
                client.call("tasks.paint", {"colour": "green", "size": 1})
    assert [each.partition(":")[0] for each in caught.value.violations] == ["colour", "size"]


def test_generated_files_show_what_the_signature_describes(painting: Operation, tools: dict[str, ModuleType]):
    source = "\n".join(tools["client_methods"].method(painting))
    assert "async def tasks_paint(self, *, colour: Literal['red', 'blue'] = 'red') -> " in source
    assert f"            colour: {DESCRIPTION}\n" in source
    row = f"| `colour` | `red`, `blue` | `red` | {DESCRIPTION} |"
    assert row in tools["operations_page"].section(painting)
    option = {"description": DESCRIPTION, "default": "red", "choices": ["red", "blue"]}
    assert tools["cli_parameters"].parameters_of(painting) == {"colour": option}


@EVERY
def test_every_interface_has_the_descriptions_of_the_signature(operation: Operation):
    name = operation.name.replace(".", "_")
    client = " ".join(str(getattr(SyncClient, name).__doc__).split())
    page = (ROOT / "docs" / "reference" / "operations.md").read_text()
    section = page.partition(f"\n## {operation.name}\n")[2].partition("\n## ")[0]
    assert operation.description in section
    assert " ".join(operation.description.split()) in client
    for parameter, field in operation.parameters.model_fields.items():
        assert f"{parameter}: {field.description}" in client
        assert f"| `{parameter}` |" in section
        assert f"| {field.description} |" in section
        assert PARAMETERS[operation.name][parameter]["description"] == field.description
