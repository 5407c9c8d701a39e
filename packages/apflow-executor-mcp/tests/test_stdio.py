"""Operations on a server that is a program, and how the program ends."""

import asyncio
import json
from typing import Any

import pytest
from peers.mcprunning import Program, run, said

from apflow.core.errors import ExecutorError
from apflow.executor.command.errors import CommandRefusedError, CommandStartError
from apflow.executor.mcp import (
    McpExecutor,
    McpInputError,
    McpInputRequiredError,
    McpLostError,
    McpProtocolError,
    McpRequestError,
    McpTimeoutError,
    McpTooLargeError,
    McpToolError,
)
from apflow.executor.mcp.pool import close_connections


async def test_it_lists_tools(program: Program):
    tools = (await run(program.inputs("list_tools")))["tools"]
    assert [each["name"] for each in tools] == ["tool_0", "tool_1", "tool_2"]
    assert tools[0]["inputSchema"] == {"type": "object"}


async def test_arguments_arrive_unchanged(program: Program):
    given = {
        "null": None,
        "big": 2**63,
        "text": "ä\n\u2028",
        "nested": [{"a": [None, True, 1.5]}],
        "empty": {},
    }
    result = await run(program.calling("echo", given))
    assert json.loads(said(result)) == given
    assert result["structuredContent"] == given


async def test_a_tool_error_fails_with_what_the_tool_says(program: Program):
    with pytest.raises(McpToolError, match="The tool 'fail' reports an error: the disk is full"):
        await run(program.calling("fail"))


async def test_a_refused_request_fails_with_its_code(program: Program):
    with pytest.raises(McpRequestError, match="refuses tools/call with error -32602: no such tool") as caught:
        await run(program.calling("refuse"))
    assert caught.value.code == -32602
    with pytest.raises(McpRequestError, match="The server does not offer this operation"):
        await run(program.inputs("list_resources"))


async def test_10000_tools_are_listed_in_all_pages(program: Program):
    tools = (await run(program.inputs("list_tools", tools=10_000, max_output_bytes=8 << 20)))["tools"]
    assert [each["name"] for each in tools] == [f"tool_{number}" for number in range(10_000)]


async def test_more_tools_than_allowed_fail_before_all_of_them_are_read(program: Program):
    with pytest.raises(McpTooLargeError, match="a result of more than 100000 bytes"):
        await run(program.inputs("list_tools", tools=10_000, max_output_bytes=100_000))
    assert sum(each.get("method") == "tools/list" for each in program.messages) < 5


async def test_a_list_without_an_end_fails(program: Program):
    with pytest.raises(McpProtocolError, match="prompts/list returns the cursor 'again' again"):
        await run(program.inputs("list_prompts"))


async def test_tasks_share_one_program(program: Program):
    pids = await asyncio.gather(*(run(program.calling("pid")) for _ in range(20)))
    assert len({said(each) for each in pids}) == 1
    assert said(await run(program.calling("pid"))) == said(pids[0])
    assert len(program.running) == 1
    await close_connections()
    assert program.running == []
    assert program.messages[-1] == {"end": "input"}  # it ended by itself


async def test_trees_do_not_share_a_program(program: Program):
    for root in ("tree-1", "tree-2"):
        executor = McpExecutor()
        executor.root_task_id = root
        await executor.execute(program.calling("pid"))
    assert len(program.running) == 2


async def test_cancellation_reaches_the_server_and_ends_it(program: Program):
    running = asyncio.create_task(run(program.calling("slow")))
    await program.until(message={"method": "tools/call"})
    call = next(each for each in program.messages if each.get("method") == "tools/call")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (cancelled,) = [each for each in program.messages if each.get("method") == "notifications/cancelled"]
    assert cancelled["params"]["requestId"] == call["id"]
    assert {"stopped": call["id"]} in program.messages
    assert program.running == []


async def test_a_cancelled_task_leaves_the_tasks_beside_it_alone(program: Program):
    beside = asyncio.create_task(run(program.calling("slow", {"steps": 10, "seconds": 0.1})))
    await program.until(message={"method": "tools/call"})
    with pytest.raises(McpTimeoutError):
        await run(program.calling("hang", timeout=0.2))
    assert said(await beside) == "done"
    assert program.running == []  # no task begins to use a connection on which a call was abandoned


async def test_a_server_that_hangs_is_ended_when_the_time_is_over(program: Program):
    with pytest.raises(McpTimeoutError, match=r"call_tool on `.*` took over 0.5 s"):
        await run(program.calling("hang", timeout=0.5))
    assert program.running == []


async def test_a_server_that_ignores_signals_is_ended(program: Program):
    with pytest.raises(McpTimeoutError):
        await run(program.calling("deaf", timeout=0.5))
    assert program.running == []


async def test_a_server_that_never_responds_to_the_handshake_is_ended(program: Program):
    with pytest.raises(McpTimeoutError):
        await run(program.inputs("list_tools", mode="mute", timeout=0.5))
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("tool", "how"),
    [
        ("die", r"the server ended with exit code 3 .*\nstderr: out of memory"),
        ("kill", "was killed by signal 9"),
    ],
)
async def test_a_server_that_dies_fails_the_task_at_once(program: Program, tool: str, how: str):
    with pytest.raises(McpLostError, match=how):
        await run(program.calling(tool))
    assert said(await run(program.calling("echo"))) == "{}"  # the next task gets a new one


async def test_a_server_that_ends_before_the_handshake_says_why(program: Program):
    with pytest.raises(ExecutorError, match=r"exit code 4(.|\n)*no configuration"):
        await run(program.inputs("list_tools", mode="exit"))


async def test_output_that_is_not_a_message_is_ignored(program: Program):
    assert said(await run(program.calling("garbage", {"lines": 5, "then": "ok"}))) == "ok"
    assert said(await run(program.calling("bytes"))) == "after"
    assert said(await run(program.calling("foreign"))) == "after"


async def test_output_that_is_never_a_message_explains_the_timeout(program: Program):
    await run(program.calling("echo"))  # it has started
    with pytest.raises(
        McpTimeoutError, match=r"contains 5 lines that are not JSON-RPC, first 'Server is listening {'"
    ):
        await run(program.calling("garbage", timeout=3))
    with pytest.raises(McpProtocolError, match="1001 lines that are not JSON-RPC"):
        await run(program.calling("garbage", {"lines": 5000}))


@pytest.mark.parametrize("result", [[], "text", None, 3])
async def test_a_result_that_is_not_an_object_fails(program: Program, result: Any):
    with pytest.raises(ExecutorError):
        await run(program.calling("wrong", {"result": result}, timeout=2))


async def test_a_server_that_floods_is_ended(program: Program):
    with pytest.raises(McpTooLargeError, match="It floods the connection"):
        await run(program.calling("flood", timeout=120))
    assert program.running == []


async def test_a_message_without_an_end_is_not_kept(program: Program):
    with pytest.raises(McpTooLargeError, match="a message of more than"):
        await run(program.calling("endless", timeout=120))
    assert program.running == []


async def test_a_large_result_fails_and_its_limit_can_be_raised(program: Program):
    with pytest.raises(McpTooLargeError, match="Raise `max_output_bytes`"):
        await run(program.calling("huge", {"bytes": 2_000_000}))
    large = await run(program.calling("huge", {"bytes": 2_000_000}, max_output_bytes=3 << 20))
    assert len(said(large)) == 2_000_000


@pytest.mark.parametrize(
    "method", ["elicitation/create", "sampling/createMessage", "roots/list", "x/unknown"]
)
async def test_requests_of_the_server_are_refused(program: Program, method: str):
    params = {"messages": [], "maxTokens": 10} if method.startswith("sampling") else None
    arguments: dict[str, Any] = {"method": method} | ({"params": params} if params else {})
    refusal = json.loads(said(await run(program.calling("ask", arguments, timeout=10))))
    assert refusal["code"] < 0


async def test_a_task_of_the_server_is_followed_to_its_end(program: Program):
    assert said(await run(program.calling("research", timeout=30))) == "found it"
    sent = [each["method"] for each in program.messages if str(each.get("method")).startswith("tasks/")]
    assert sent == ["tasks/get", "tasks/get", "tasks/result"]


async def test_a_task_of_the_server_that_requires_input_is_cancelled(program: Program):
    with pytest.raises(McpInputRequiredError, match="requires input of a user or of a language model"):
        await run(program.calling("research", {"polls": -1}, timeout=30))
    assert any(each.get("method") == "tasks/cancel" for each in program.messages)


async def test_a_task_of_the_server_is_cancelled_with_the_task(program: Program):
    running = asyncio.create_task(run(program.calling("research", {"polls": 10**6}, timeout=60)))
    await program.until(message={"method": "tasks/get"})
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert any(each.get("method") == "tasks/cancel" for each in program.messages)


async def test_a_task_of_a_program_ends_with_it(program: Program):
    inputs = program.calling("research", timeout=60)
    inputs["env"]["MCP_MODE"] = "mortal"
    with pytest.raises(McpLostError, match="code 3"):
        await run(inputs)
    assert len(program.pids) == 1


async def test_the_environment_of_the_program_is_minimal(program: Program, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    environment = json.loads(said(await run(program.calling("environment"))))
    assert "PATH" in environment
    assert "DATABASE_PASSWORD" not in environment


async def test_a_program_that_is_not_allowed_is_not_started(
    program: Program, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "ls")
    with pytest.raises(CommandRefusedError, match="APFLOW_COMMAND_ALLOW"):
        await run(program.calling("echo"))
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    with pytest.raises(CommandStartError):
        await run({"transport": "stdio", "operation": "list_tools", "command": "no-such-program"})
    assert program.pids == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"command": None}, "`command` is required for the transport stdio"),
        ({"url": "http://a"}, "`url` cannot be used with the transport stdio"),
        ({"tool_name": None}, "`tool_name` is required for the operation call_tool"),
        ({"resource_uri": "a:b"}, "`resource_uri` cannot be used with the operation call_tool"),
        ({"command": "'"}, "`command` cannot be split"),
        ({"operation": "get_prompt", "tool_name": None}, "`prompt_name` is required"),
    ],
)
async def test_inputs_that_describe_no_operation_are_refused(
    program: Program, changed: dict[str, Any], fault: str
):
    with pytest.raises(McpInputError, match=fault):
        await run(program.calling("echo") | changed)
    assert program.pids == []
