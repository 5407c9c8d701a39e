"""What the conformance suite of MCP expects a server to offer, added to ours, which this program serves.

`python mcp_fixtures.py PORT` serves an application with authentication on loopback. As a proxy of a company
might, it adds the token of a user to each request, because the suite does not send one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import jwt
import mcp.types
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from tasks_of_suite import ASKING, TASK_TOOLS, Params, Wire, content, text

from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.app import create_app
from apflow.server.mcp.exchange import INVALID_PARAMS, Exchange, ProtocolError
from apflow.server.mcp.handlers import Additions
from apflow.server.mcp.tool_results import failure
from apflow.server.process.lifecycle import configuration

types: Any = mcp.types
SECRET = "a secret of tests that is long enough for HS256"
MISSING_CAPABILITY = -32021
IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="


def embedded(uri: str, kind: str, value: str) -> Wire:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": value}}


PICTURE = {"type": "image", "data": IMAGE, "mimeType": "image/png"}
FIXED: dict[str, Wire] = {
    "test_simple_text": content(text("This is a simple text response for testing.")),
    "test_image_content": content(PICTURE),
    "test_audio_content": content({"type": "audio", "data": SOUND, "mimeType": "audio/wav"}),
    "test_embedded_resource": content(
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": content(
        text("Multiple content types test:"),
        PICTURE,
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
    "test_error_handling": failure("This tool intentionally returns an error for testing"),
    "json_schema_2020_12_tool": content(text("called")),
    "test_x_mcp_header": content(text("called")),
}
SCHEMA_2020_12: Wire = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def log(exchange: Exchange, message: str) -> None:
    context = exchange.context
    await context.session.send_log_message("info", message, None, context.request_id)


async def logs(exchange: Exchange, params: Params) -> Wire:
    for each in ("started", "processing data", "completed"):
        await log(exchange, f"Tool execution {each}")
        await asyncio.sleep(0.05)
    return content(text("Tool with logging executed successfully"))


async def progresses(exchange: Exchange, params: Params) -> Wire:
    for each in (0, 50, 100):
        if exchange.report is not None:
            await exchange.report(each, 100, f"Completed step {each} of 100")
        await asyncio.sleep(0.05)
    return content(text(str((params.get("_meta") or {}).get("progressToken", 0))))


async def samples(exchange: Exchange, params: Params) -> Wire:
    session, request_id = exchange.context.session, exchange.context.request_id
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text=prompt_of(params))
    )
    try:
        found = await session.create_message([message], max_tokens=100, related_request_id=request_id)
    except Exception as error:  # noqa: BLE001 - what the client says
        return content(text(f"Sampling not supported or error: {error}"))
    return content(text(f"LLM response: {found.content.text}"))


def prompt_of(params: Params) -> str:
    return str((params.get("arguments") or {}).get("prompt", ""))


def form(**properties: Wire) -> Wire:
    return {"type": "object", "properties": properties}


SIMPLE_FORM = form(response={"type": "string", "description": "User's response"}) | {"required": ["response"]}
DEFAULTS_FORM = form(
    name={"type": "string", "default": "John Doe"},
    age={"type": "integer", "default": 30},
    score={"type": "number", "default": 95.5},
    status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    verified={"type": "boolean", "default": True},
)


def titled(*names: str) -> list[Wire]:
    return [{"const": each, "title": each.title()} for each in names]


ENUMS_FORM = form(
    untitledSingle={"type": "string", "enum": ["option1", "option2", "option3"]},
    titledSingle={"type": "string", "oneOf": titled("value1", "value2", "value3")},
    legacyEnum={"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
    untitledMulti={"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    titledMulti={"type": "array", "items": {"anyOf": titled("value1", "value2", "value3")}},
)


def asks(schema: Wire, said: str) -> Callable[[Exchange, Params], Awaitable[Wire]]:
    async def ask(exchange: Exchange, params: Params) -> Wire:
        session, request_id = exchange.context.session, exchange.context.request_id
        message = (params.get("arguments") or {}).get("message", "Please answer.")
        try:
            found = await session.elicit_form(message, schema, request_id)
        except Exception as error:  # noqa: BLE001 - what the client says
            return content(text(f"Elicitation not supported or error: {error}"))
        return content(text(f"{said}: action={found.action}, content={json.dumps(found.content or {})}"))

    return ask


def elicitation(message: str, **properties: Wire) -> Wire:
    schema = form(**properties) | {"required": list(properties)}
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sampling(question: str) -> Wire:
    message = {"role": "user", "content": text(question)}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}}


STRING = {"type": "string"}
NAME = {"user_name": elicitation("What is your name?", name=STRING)}
CAPITAL = {"capital_question": sampling("What is the capital of France?")}
ROOTS = {"client_roots": {"method": "roots/list", "params": {}}}
CONFIRM = {"confirm": elicitation("Please confirm", ok={"type": "boolean"})}
COLOR = {"step2": elicitation("Step 2: What is your favorite color?", color=STRING)}
STEP = {"step1": elicitation("Step 1: What is your name?", name=STRING)}


def needs(requests: Wire, state: str | None = None) -> Wire:
    more = {} if state is None else {"requestState": sign(state)}
    return {"resultType": "input_required", "inputRequests": requests, **more}


def sign(state: str) -> str:
    return jwt.encode({"state": state}, SECRET, algorithm="HS256")


def state_of(params: Params) -> str | None:
    given = params.get("requestState")
    if given is None:
        return None
    try:
        return str(jwt.decode(given, SECRET, algorithms=["HS256"])["state"])
    except jwt.PyJWTError as error:
        raise ProtocolError(INVALID_PARAMS, "requestState is not valid.") from error


def inputs(requests: Wire, state: str | None, said: str) -> Callable[[Exchange, Params], Awaitable[Wire]]:
    async def ask(exchange: Exchange, params: Params) -> Wire:
        given = params.get("inputResponses") or {}
        known = state_of(params)
        if not set(requests) <= set(given) or (state is not None and known != state):
            return needs(requests, state)
        return content(text(f"{said} {json.dumps(given)}"))

    return ask


async def capable(exchange: Exchange, params: Params) -> Wire:
    """Ask only for what the client says that it can do."""
    if params.get("inputResponses"):
        return content(text("done"))
    found = capabilities(params)
    requests = {
        **(NAME if "elicitation" in found else {}),
        **(CAPITAL if "sampling" in found else {}),
        **(ROOTS if "roots" in found else {}),
    }
    return needs(requests) if requests else content(text("The client can do nothing of it."))


async def needs_sampling(exchange: Exchange, params: Params) -> Wire:
    """Refuse clients that do not declare that they offer a language model."""
    if "sampling" not in capabilities(params):
        message = "The client must offer a language model."
        raise ProtocolError(MISSING_CAPABILITY, message, {"requiredCapabilities": {"sampling": {}}})
    return content(text("The client offers a language model."))


def capabilities(params: Params) -> Wire:
    return (params.get("_meta") or {}).get("io.modelcontextprotocol/clientCapabilities") or {}


async def rounds(exchange: Exchange, params: Params) -> Wire:
    given, state = params.get("inputResponses") or {}, state_of(params)
    if state == "second" and "step2" in given:
        return content(text("done"))
    if state == "first" and "step1" in given:
        return needs(COLOR, "second")
    return needs(STEP, "first")


CALLED: dict[str, Callable[[Exchange, Params], Awaitable[Wire]]] = {
    "test_tool_with_logging": logs,
    "test_tool_with_progress": progresses,
    "test_sampling": samples,
    "test_elicitation": asks(SIMPLE_FORM, "User response"),
    "test_elicitation_sep1034_defaults": asks(DEFAULTS_FORM, "Elicitation completed"),
    "test_elicitation_sep1330_enums": asks(ENUMS_FORM, "Elicitation completed"),
    "test_input_required_result_elicitation": inputs(NAME, None, "Hello,"),
    "test_input_required_result_sampling": inputs(CAPITAL, None, "Answered:"),
    "test_input_required_result_list_roots": inputs(ROOTS, None, "Roots:"),
    "test_input_required_result_request_state": inputs(CONFIRM, "confirm", "state-ok"),
    "test_input_required_result_tampered_state": inputs(CONFIRM, "confirm", "state-ok"),
    "test_input_required_result_multiple_inputs": inputs(
        NAME | {"greeting": sampling("Generate a greeting")} | ROOTS, "all", "All:"
    ),
    "test_input_required_result_multi_round": rounds,
    "test_input_required_result_capabilities": capable,
    "test_missing_capability": needs_sampling,
    "test_streaming_elicitation": inputs(NAME, None, "Hello,"),
    "test_logging_tool": logs,
    **TASK_TOOLS,
}
ARGUMENTS = {
    "test_sampling": {"prompt": {"type": "string"}},
    "test_elicitation": {"message": {"type": "string"}},
    "test_x_mcp_header": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": STRING},
}


class FixtureTools:
    """Tools that return each kind of content, and use each feature of a session."""

    def definitions(self) -> Sequence[Wire]:
        found = []
        for name in [*FIXED, *CALLED]:
            schema = {"type": "object", "properties": ARGUMENTS.get(name, {})}
            given = SCHEMA_2020_12 if name == "json_schema_2020_12_tool" else schema
            found.append({"name": name, "description": f"Fixture {name}", "inputSchema": given})
        return found

    async def call(self, exchange: Exchange, params: Params) -> Wire:
        name = params["name"]
        return FIXED[name] if name in FIXED else await CALLED[name](exchange, params)


RESOURCES: dict[str, Wire] = {
    "test://static-text": {
        "mimeType": "text/plain",
        "text": "This is the content of the static text resource.",
    },
    "test://static-binary": {"mimeType": "image/png", "blob": IMAGE},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watched resource content"},
}
BEGIN, END = "test://template/", "/data"


class FixtureResources:
    """Resources with text and bytes, and a template."""

    def definitions(self) -> Sequence[Wire]:
        return [{"uri": uri, "name": uri, "mimeType": each["mimeType"]} for uri, each in RESOURCES.items()]

    def templates(self) -> Sequence[Wire]:
        return [{"uriTemplate": f"{BEGIN}{{id}}{END}", "name": "template", "mimeType": "application/json"}]

    async def read(self, exchange: Exchange, uri: str) -> Wire | None:
        if uri in RESOURCES:
            return {"contents": [{"uri": uri} | RESOURCES[uri]]}
        if uri.startswith(BEGIN) and uri.endswith(END):
            found = uri.removeprefix(BEGIN).removesuffix(END)
            data = {"id": found, "templateTest": True, "data": f"Data for ID: {found}"}
            return {"contents": [{"uri": uri, "mimeType": "application/json", "text": json.dumps(data)}]}
        return None


def user(*blocks: Wire) -> Wire:
    return {"messages": [{"role": "user", "content": each} for each in blocks]}


class FixturePrompts:
    """Prompts with arguments, with a resource, with an image, and with a question to the client."""

    def definitions(self) -> Sequence[Wire]:
        arguments = {
            "test_simple_prompt": [],
            "test_prompt_with_arguments": ["arg1", "arg2"],
            "test_prompt_with_embedded_resource": ["resourceUri"],
            "test_prompt_with_image": [],
            "test_input_required_result_prompt": [],
        }
        return [
            {
                "name": name,
                "description": f"Fixture {name}",
                "arguments": [{"name": each, "description": each, "required": True} for each in names],
            }
            for name, names in arguments.items()
        ]

    async def get(self, exchange: Exchange, params: Params) -> Wire:
        given = params.get("arguments") or {}
        match params["name"]:
            case "test_simple_prompt":
                return user(text("This is a simple prompt for testing."))
            case "test_prompt_with_arguments":
                said = f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"
                return user(text(said))
            case "test_prompt_with_embedded_resource":
                resource = embedded(
                    given["resourceUri"], "text/plain", "Embedded resource content for testing."
                )
                return user(resource, text("Please process the embedded resource above."))
            case "test_prompt_with_image":
                return user(PICTURE, text("Please analyze the image above."))
            case _:
                if "user_context" not in (params.get("inputResponses") or {}):
                    context = elicitation("What context should the prompt use?", context=STRING)
                    return needs({"user_context": context})
                return user(text("Thank you."))


async def nothing(exchange: Exchange, params: Params) -> Wire:
    return {}


async def complete(exchange: Exchange, params: Params) -> Wire:
    return {"completion": {"values": [], "total": 0, "hasMore": False}}


def additions() -> Additions:
    return Additions(
        tasks=[ASKING],
        tools=[FixtureTools()],
        resources=[FixtureResources()],
        prompts=[FixturePrompts()],
        handlers={
            "logging/setLevel": nothing,
            "completion/complete": complete,
            "resources/subscribe": nothing,
            "resources/unsubscribe": nothing,
        },
    )


def with_token(app: ASGIApp) -> ASGIApp:
    """Return the application behind a proxy that adds the token of a user."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            claims = {"sub": "suite", "exp": time.time() + 3600}
            token = jwt.encode(claims, SECRET, algorithm="HS256")
            header = (b"authorization", f"Bearer {token}".encode())
            scope = {**scope, "headers": [*scope["headers"], header]}
        await app(scope, receive, send)

    return serve


def main() -> None:
    port = int(sys.argv[1])
    settings = Settings(jwt_secret=SECRET, public_url=f"http://127.0.0.1:{port}", rate_limit=1_000_000)
    app = create_app(settings, db=MemoryStore())
    app.state.mcp.additions = additions()
    config = configuration(app, settings)
    config.app = with_token(app)
    config.port = port
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
