"""The description of the server, for programs (`/openapi.json`) and for people (`/docs`).

`/docs` is plain HTML: it runs no script and loads no other resource.
"""

from __future__ import annotations

from html import escape
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from apflow.core.payload.json_value import dumps
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.server.api.openapi import make_document
from apflow.server.http.response import JsonResponse

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;padding:.5rem 1rem;background:#8881}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}"
)
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Return the description as OpenAPI. Its server is the public URL, if the settings name one."""
    document = make_document(request.app)
    url = request.app.state.settings.public_url.rstrip("/") or request.scope.get("root_path", "")
    return JsonResponse(document | {"servers": [{"url": url}]} if url else document)


@router.get("/docs")
async def docs() -> Response:
    """Return the description as an HTML page."""
    return HTMLResponse(page(), headers={"Content-Security-Policy": POLICY})


def page() -> str:
    """Return the HTML page of all operations."""
    parts = [_section(each) for each in OPERATIONS.values()]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>apflow</title><style>{STYLE}</style>"
        "<h1>apflow</h1><p>Call an operation by <code>POST /call/&lt;operation&gt;</code> with its "
        "parameters as JSON, or as a method of JSON-RPC 2.0 at <code>POST /tasks</code> or "
        "<code>POST /system</code>. "
        'OpenAPI: <a href="openapi.json">openapi.json</a>.</p>' + "".join(parts)
    )


def _section(operation: Operation) -> str:
    schema = operation.parameters_schema()
    required = schema.get("required", [])
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{'required' if name in required else ''}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    ]
    example = dumps({"jsonrpc": "2.0", "id": 1, "method": operation.name, "params": {}}).decode()
    return (
        f"<h2 id={operation.name}><code>{operation.name}</code></h2><p>{escape(operation.description)}</p>"
        f"<table>{''.join(rows)}</table><pre>{escape(example)}</pre>"
    )
