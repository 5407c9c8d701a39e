"""The description in OpenAPI is true: schemathesis calls the server as it says, and as it does not say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from openapi_hooks import TASKS
from serving import SECRET, Served, bearer, serving

from apflow.core.service.operations import OPERATIONS
from apflow.core.settings import Settings, reset_settings

TESTS = Path(__file__).parent
# Well-formed data may still be unusable (422), such as a tree with a cycle.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]

# A schema cannot describe valid URLs and header names.
[[operations]]
include-name = "POST /call/tasks.execute"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "429"]
"""


def plant(served: Served, token: str) -> None:
    """Create the trees that the hooks name."""
    for root in TASKS:
        tree = [{"id": root, "name": "group"}, {"id": f"{root}-c", "name": "group", "parent_id": root}]
        call = {"url": f"{served.url}/call/tasks.create", "json": {"tasks": tree}}
        assert httpx.post(**call, headers={"Authorization": token}).status_code == 200


def explore(folder: Path, examples: int, seconds: float) -> int:
    """Have schemathesis call every path, with so many examples for each; return how many calls that made."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    patch = pytest.MonkeyPatch()
    patch.setenv("APFLOW_MAX_REQUESTED", "10000000")
    patch.setenv("APFLOW_MAX_REQUESTED_PER_USER", "10000000")
    reset_settings()
    try:
        with serving(Settings(jwt_secret=SECRET, rate_limit=100_000_000)) as served:
            token = bearer("ann", expires_in=36_000)["Authorization"]
            plant(served, token)
            command = [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(folder / "schemathesis.toml"), "run", f"{served.url}/openapi.json"),
                *("--checks", "all", "--max-examples", str(examples), "--seed", "7", "--no-color"),
                *(
                    "--header",
                    f"Authorization: {token}",
                    "--request-timeout",
                    "10",
                    "--suppress-health-check",
                    "all",
                ),
                *("--exclude-path", "/tasks/{task_id}/events", "--exclude-path", "/call/tasks.watch"),
                *("--exclude-path", "/tasks/{task_id}/logs", "--exclude-path", "/follow"),
                *("--exclude-path", "/metrics"),
                # It calls a language model elsewhere.
                *("--exclude-path", "/call/tasks.generate"),
            ]
            environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(TESTS)}
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
            )
    finally:
        patch.undo()
        reset_settings()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    made = re.search(r"([\d,]+) generated", done.stdout)
    assert made is not None, done.stdout[-2000:]
    return int(made[1].replace(",", ""))


def test_the_server_does_what_its_description_says(tmp_path: Path):
    assert explore(tmp_path, 5, 500) >= 200


@pytest.mark.long
def test_the_server_does_what_its_description_says_in_many_examples(tmp_path: Path):
    assert explore(tmp_path, 200, 1800) >= 5000


def test_every_operation_is_described_with_its_parameters_and_its_result(http: httpx.Client):
    document = http.get("/openapi.json").json()
    for name in OPERATIONS:
        described = document["paths"][f"/call/{name}"]["post"]
        assert described["summary"] == OPERATIONS[name].summary
        assert described["requestBody"]["content"]["application/json"]["schema"]
        assert {"200", "400", "401", "404", "409", "422"} <= set(described["responses"])
    assert "securitySchemes" not in document["components"]


def test_with_authentication_every_path_but_probes_says_so(guarded: Served):
    document = httpx.get(f"{guarded.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        for described in methods.values():
            assert bool(described["security"]) == (path not in ("/health", "/ready"))


def test_the_public_url_is_the_server_of_the_description(http: httpx.Client):
    assert "servers" not in http.get("/openapi.json").json()
    with serving(Settings(public_url="https://example.com/apflow/")) as served:
        document = httpx.get(f"{served.url}/openapi.json", trust_env=False).json()
    assert document["servers"] == [{"url": "https://example.com/apflow"}]


def test_the_page_for_people_names_every_operation_and_loads_nothing(http: httpx.Client):
    answer = http.get("/docs")
    assert [name for name in OPERATIONS if f"id={name}>" not in answer.text] == []
    assert "<script" not in answer.text
    assert "src=" not in answer.text
    assert "script-src" not in answer.headers["Content-Security-Policy"]
