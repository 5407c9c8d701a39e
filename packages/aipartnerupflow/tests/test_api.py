"""The former functions that make the server, called over HTTP by the test client of Starlette."""

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aipartnerupflow.api import create_app_by_protocol, create_runnable_app, initialize_extensions, setup_app
from aipartnerupflow.api.a2a.server import create_a2a_server, generate_token, verify_token
from aipartnerupflow.api.protocols import (
    check_protocol_dependency,
    get_protocol_from_env,
    get_supported_protocols,
)
from aipartnerupflow.cli.main import app as command_line
from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.settings import reset_settings

SECRET = "a secret of tests that is 32 bytes long"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tasks.count", "params": {}}


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_DATABASE_URL", "memory://")
    reset_settings()
    yield
    reset_settings()


class Marked:
    """Middleware that adds a header to each response."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        async def marked(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-marked", b"yes"))
            await send(message)

        await self.app(scope, receive, marked)


def test_an_application_of_any_protocol_serves_all_with_routes_and_middleware_of_its_own():
    async def hello(request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = create_app_by_protocol("a2a", custom_routes=[Route("/hello", hello)], custom_middleware=[Marked])
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        greeted = client.get("/hello")
        assert (greeted.text, greeted.headers["x-marked"]) == ("hello", "yes")
        assert client.post("/tasks", json=CALL).json()["result"]
        assert client.get("/.well-known/agent-card").status_code == 200
    assert create_runnable_app is create_app_by_protocol
    assert setup_app is create_app_by_protocol


def test_a_server_of_a2a_asks_for_tokens_of_its_secret():
    app = create_a2a_server(verify_token_secret_key=SECRET, base_url="https://flow.example")
    token = generate_token({"sub": "ann"}, SECRET)
    assert verify_token(token, SECRET)["sub"] == "ann"
    assert verify_token(token, SECRET + "!") is None
    assert verify_token(generate_token({"sub": "ann"}, SECRET, expires_in_days=-1), SECRET) is None
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        assert client.post("/tasks", json=CALL).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.post("/tasks", json=CALL, headers=bearer).status_code == 200
        assert "https://flow.example" in client.get("/.well-known/agent-card.json").text


def test_protocols_are_named_and_checked(monkeypatch: pytest.MonkeyPatch):
    assert {"a2a", "mcp"} <= {*get_supported_protocols()}
    assert get_protocol_from_env() == "a2a"
    monkeypatch.setenv("AIPARTNERUPFLOW_API_PROTOCOL", "MCP")
    assert get_protocol_from_env() == "mcp"
    for each in get_supported_protocols():
        check_protocol_dependency(each)
    with pytest.raises(InvalidInputError, match="no protocol 'soap'"):
        create_app_by_protocol("soap")


def test_extensions_are_the_modules_that_the_setting_names(monkeypatch: pytest.MonkeyPatch):
    initialize_extensions()
    monkeypatch.setenv("APFLOW_IMPORT", "no_module_of_this_name")
    reset_settings()
    with pytest.raises((SettingsError, InvalidInputError), match="no_module_of_this_name"):
        initialize_extensions()


def test_the_command_line_is_an_object():
    shown = CliRunner().invoke(command_line, ["--version"])
    assert (shown.exit_code, shown.output.split()[0]) == (0, "apflow")
