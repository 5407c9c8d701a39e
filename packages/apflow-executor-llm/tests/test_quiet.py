"""What LiteLLM does beside calling models is switched off, and it is imported by the first call only."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

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


FETCHING = """
import asyncio, sys
from apflow.executor.llm import LLMExecutor
from apflow.executor.llm.library import load
from apflow.executor.llm.usage import count_tokens

headers = {"anthropic-beta": "interleaved-thinking-2025-05-14"}
inputs = {"model": "anthropic/claude-sonnet-4-5", "prompt": "Hi", "api_base": sys.argv[1], "api_key": "k"}
asyncio.run(LLMExecutor().execute(inputs | {"extra_headers": headers}))
for model in ("ollama/llama-3", "replicate/llama-2-70b", "command-r", "deepseek/deepseek-chat"):
    assert count_tokens(load(), model, [{"role": "user", "content": "Hi"}]) > 0
"""


class Fetched(BaseHTTPRequestHandler):
    """Records what is requested."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Fetched.paths.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - the name that the server calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


def fetched(server: ModelServer, folder: Path, **settings: str) -> list[str]:
    """Return what a program fetches, beside its calls of models, from where LiteLLM fetches by itself."""
    Fetched.paths.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Fetched) as site:
        serving = threading.Thread(target=site.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{site.server_port}"
        names = ("LITELLM_MODEL_COST_MAP_URL", "LITELLM_ANTHROPIC_BETA_HEADERS_URL", "HF_ENDPOINT")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM_")}
        try:
            subprocess.run(
                [sys.executable, "-c", FETCHING, server.url],
                cwd=folder,
                env=kept | {name: f"{url}/{name}" for name in names} | {"HF_HOME": str(folder)} | settings,
                check=True,
                timeout=300,
            )
        finally:
            site.shutdown()
            serving.join()
    return list(Fetched.paths)


def test_nothing_is_fetched_beside_the_calls(server: ModelServer, tmp_path: Path):
    assert fetched(server, tmp_path) == []


def test_a_setting_has_the_price_list_fetched(server: ModelServer, tmp_path: Path):
    assert "/LITELLM_MODEL_COST_MAP_URL" in fetched(server, tmp_path, LITELLM_LOCAL_MODEL_COST_MAP="False")


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
