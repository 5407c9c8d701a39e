from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apflow.core.errors import InvalidInputError, PluginLoadError
from apflow.core.extensions.registry import ExtensionCategory, get_registry
from apflow.core.extensions.tools import Tool, get_tool, tool_ids, tool_register


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


async def test_an_installed_tool_is_loaded_when_used(install: Callable[..., None]):
    code = "from apflow.core import Tool\nclass T(Tool):\n    async def execute(self, inputs): return 7\n"
    install("tooling-one", "test_tool = tooling_one:T", code, group="apflow.tools")
    assert "test_tool" in tool_ids()
    assert await get_tool("test_tool").execute({}) == 7


def test_a_plugin_that_is_not_a_tool_is_a_load_error(install: Callable[..., None]):
    install("tooling-one", "test_tool = tooling_one:T", "T = 3", group="apflow.tools")
    with pytest.raises(PluginLoadError, match="not a Tool class"):
        get_tool("test_tool")
