from collections.abc import Iterator
from typing import Any

import pytest
from apflow.core.errors import InvalidInputError
from apflow.core.extensions import ExtensionCategory, get_registry
from apflow.core.tools import Tool, get_tool, tool_ids, tool_register


class Adder(Tool):
    id = "test_adder"
    name = "Adder"
    description = "Adds"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": sum(inputs["numbers"])}


@pytest.fixture(autouse=True)
def no_tools() -> Iterator[None]:
    yield
    get_registry().unregister("test_adder")


@pytest.mark.parametrize(
    "register",
    [
        lambda: tool_register(Adder),
        lambda: tool_register()(Adder),
        lambda: tool_register(Adder()),
        lambda: get_registry().register(Adder()),
    ],
)
async def test_a_registered_tool_is_had_by_its_id(register: Any):
    register()
    assert "test_adder" in tool_ids()
    assert await get_tool("test_adder").execute({"numbers": [1, 2]}) == {"sum": 3}
    assert get_registry().ids(ExtensionCategory.TOOL) == ["test_adder"]


def test_an_unknown_tool_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="test_missing"):
        get_tool("test_missing")
