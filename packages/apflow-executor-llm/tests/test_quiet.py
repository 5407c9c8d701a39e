"""What LiteLLM does beside calling models is switched off, and it is imported by the first call only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from apflow.testing.modelserver import ModelServer, Reply

PROGRAM = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.DEBUG, filename=sys.argv[2])
from apflow.executor.llm import LLMExecutor, LLMError
assert "litellm" not in sys.modules and "openai" not in sys.modules
LLMExecutor().get_input_schema()
assert "litellm" not in sys.modules

async def main():
    for model, base in (("openai/gpt-4o", sys.argv[1] + "/v1"), ("anthropic/claude-sonnet-4-5", sys.argv[1])):
        for stream in (False, True):
            inputs = {"model": model, "prompt": "Hi", "api_base": base, "api_key": "k", "stream": stream}
            inputs["retry"] = {"max_attempts": 1}
            await LLMExecutor().execute(inputs)
            try:
                await LLMExecutor().execute(inputs | {"system": "fail"})
            except LLMError as error:
                print(type(error).__name__, file=sys.stderr)
    try:
        await LLMExecutor().execute({"model": "nothing", "prompt": "Hi"})
    except LLMError as error:
        print(type(error).__name__, file=sys.stderr)
asyncio.run(main())
assert "FROM_DOT_ENV" not in os.environ
assert "LITELLM_MODE" not in os.environ
"""


def test_nothing_is_printed_and_no_dot_env_is_read(server: ModelServer, tmp_path: Path):
    (tmp_path / ".env").write_text("FROM_DOT_ENV=1\n")
    server.default = lambda request: Reply("no", status=400 if "fail" in str(request.body) else 200)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.url, str(tmp_path / "log")],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("LITELLM_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert run.stderr.split() == ["LLMRequestError"] * 4 + ["LLMInputError"], run.stderr
    assert len(server.requests) == 8
