"""The programs of the documents about crews run as printed; the environment names the model server."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

from apflow.testing.modelserver import ModelServer, Reply

PRINTED = Path(__file__).parents[3] / "tests-integration" / "seeds" / "readme"
ELISION = "{...}"  # in place of the inputs


async def run(file: str, inputs: dict[str, Any]) -> dict[str, Any]:
    text = (PRINTED / file).read_text()
    assert ELISION in text
    program = text.replace(ELISION, json.dumps(inputs))
    namespace: dict[str, Any] = {"__name__": "printed"}
    running = eval(compile(program, file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.iscoroutine(running):
        await running
    return namespace


async def test_the_crew_of_the_readme_runs(server: ModelServer):
    server.script.append(Reply("It grows.", prompt_tokens=20, completion_tokens=3))
    result = (await run("crew.py", {"data": [1, 2]}))["result"]
    assert (result["status"], result["result"]) == ("completed", "It grows.")
    assert result["token_usage"]["total_tokens"] == 23
    [request] = server.requests
    assert (request.api_key, request.body["model"]) == ("key-of-test", "gpt-4o")
    sent = json.dumps(request.body["messages"])
    assert "Analyst" in sent
    assert "Analyze data" in sent
    assert "Analyze input" in sent


async def test_the_batch_of_the_readme_runs(server: ModelServer):
    server.script += [Reply("rows"), Reply("trends")]
    names = await run("batch.py", {"data": [1, 2]})
    result = names["result"]
    assert names["batch"].id == "my_batch"
    assert (result["status"], result["result"]) == (
        "completed", {"data_collection": "rows", "data_analysis": "trends"},
    )  # fmt: skip
    sent = [json.dumps(request.body["messages"]) for request in server.requests]
    assert "Collect data" in sent[0]
    assert "Analyze data" in sent[1]


async def test_the_batch_of_the_readme_is_atomic(server: ModelServer):
    server.script.append(Reply("rows"))
    server.default = Reply("refused", status=401)
    result = (await run("batch.py", {}))["result"]
    assert (result["status"], result["failed_crew"]) == ("failed", "data_analysis")
    assert "Completed before: 'data_collection'." in result["error"]
