"""The card of the agent: what it can do, and where.

The public card names the operations and the executors, but not those that show what the machine of the server
can be used for. The extended card, which identified callers get, names all.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, cast

from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentProvider,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from google.protobuf.json_format import MessageToDict
from starlette.datastructures import Headers

from apflow.core import plugins
from apflow.core.extensions.description import describe_executors
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS
from apflow.core.settings import Settings
from apflow.server.http.protection import has_auth

EXTENSION: Final = "urn:apflow:a2a:progress:v1"  # `metadata.apflow` in updates of the status
INFRASTRUCTURE: Final = frozenset(
    {
        "command_executor",
        "docker_executor",
        "grpc_executor",
        "mcp_executor",
        "ssh_executor",
        "system_info_executor",
    }
)  # executors that only the extended card names
MODES: Final = ("application/json", "text/plain")
EXECUTORS_SECONDS: Final = 60.0  # how long the list of executors is used again
CACHE_CONTROL: Final = "public, max-age=60"
HOME: Final = "https://pypi.org/project/apflow-server/"
SUMMARIES: Final = {
    "tasks": "Run trees of tasks, and read, change, copy and cancel them.",
    "system": "Read the state of the system and its executors.",
    "config": "Store the caller's keys of language models.",
}


@dataclass(frozen=True)
class Addresses:
    """Where the interfaces of the agent are."""

    base: str  # without a slash at the end
    grpc: str = ""  # host:port; empty if gRPC is not served
    has_legacy: bool = True  # whether version 0.3 is announced


class Cards:
    """Makes the cards of one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._executors: list[dict[str, Json]] = []
        self._read_at = float("-inf")
        self._changed: dict[str, datetime] = {}  # by ETag: since when a card has that content

    async def make(self, addresses: Addresses, *, is_extended: bool) -> AgentCard:
        """Return a card; a signed one if a key is set."""
        if time.monotonic() - self._read_at > EXECUTORS_SECONDS:
            self._executors = await asyncio.to_thread(describe_executors)
            self._read_at = time.monotonic()
        shown = [each for each in self._executors if each["is_usable"]]
        if not is_extended:
            shown = [each for each in shown if each["id"] not in INFRASTRUCTURE]
        card = card_of(addresses, skills_of(shown), has_auth=has_auth(self._settings))
        if self._settings.a2a_card_key:
            await asyncio.to_thread(_sign, card, self._settings)
        return card

    def headers(self, body: Mapping[str, Json]) -> dict[str, str]:
        """Return the headers of an answer with a card. A new signature alone does not change the ETag."""
        unsigned = {name: value for name, value in body.items() if name != "signatures"}
        text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"))
        tag = f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        if tag not in self._changed:
            while len(self._changed) > 100:
                del self._changed[next(iter(self._changed))]
            self._changed[tag] = datetime.now(UTC).replace(microsecond=0)
        return {
            "Cache-Control": CACHE_CONTROL,
            "ETag": tag,
            "Last-Modified": format_datetime(self._changed[tag], usegmt=True),
        }


def card_json(card: AgentCard) -> dict[str, Json]:
    """Return the JSON of a card, with the fields of version 0.3 if the card announces that."""
    if any(each.protocol_version.startswith("0.") for each in card.supported_interfaces):
        return agent_card_to_dict(card)
    return MessageToDict(card)


def is_known(request: Headers, headers: Mapping[str, str]) -> bool:
    """Return whether a client has this content already (RFC 9110, section 13.2.2)."""
    given = request.get("if-none-match")
    if given is not None:
        tags = [each.strip().removeprefix("W/") for each in given.split(",")]
        return "*" in tags or headers["ETag"].removeprefix("W/") in tags
    since = request.get("if-modified-since")
    try:
        return since is not None and parsedate_to_datetime(headers["Last-Modified"]) <= parsedate_to_datetime(
            since
        )
    except (TypeError, ValueError):
        return False


def card_of(addresses: Addresses, skills: Sequence[AgentSkill], *, has_auth: bool) -> AgentCard:
    """Return the card of an agent."""
    card = AgentCard(
        name="apflow",
        description="Runs trees of tasks: sends progress, artifacts and the result, and can be cancelled.",
        version=plugins.version("apflow-server") or "0",
        provider=AgentProvider(organization="apflow", url=HOME),
        documentation_url=HOME,
        supported_interfaces=interfaces(addresses),
        capabilities=AgentCapabilities(
            streaming=True,
            push_notifications=True,
            extended_agent_card=True,
            extensions=[
                AgentExtension(
                    uri=EXTENSION,
                    description="Updates of the status have the progress of each task in metadata.apflow.",
                )
            ],
        ),
        default_input_modes=MODES,
        default_output_modes=MODES,
        skills=skills,
    )
    if has_auth:
        bearer = HTTPAuthSecurityScheme(scheme="Bearer", bearer_format="JWT")
        card.security_schemes["bearer"].CopyFrom(SecurityScheme(http_auth_security_scheme=bearer))
        card.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    return card


def interfaces(addresses: Addresses) -> list[AgentInterface]:
    """Return the interfaces of an agent, the preferred one first."""
    places = [("JSONRPC", addresses.base), ("HTTP+JSON", f"{addresses.base}/v1")]
    if addresses.grpc:
        places.append(("GRPC", addresses.grpc))
    versions = ("1.0", "0.3") if addresses.has_legacy else ("1.0",)
    return [
        AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
        for version in versions
        for binding, url in places
    ]


def skills_of(executors: Sequence[Mapping[str, Json]]) -> list[AgentSkill]:
    """Return one skill for each family of operations, and one for each executor."""
    families = [_family(name, summary) for name, summary in SUMMARIES.items()]
    return families + [_skill(each) for each in executors]


def _family(name: str, summary: str) -> AgentSkill:
    operations = [each for each in OPERATIONS if each.startswith(f"{name}.")]
    examples = [json.dumps({"metadata": {"method": each}}) for each in operations[:3]]
    if name == "tasks":
        task: dict[str, Json] = {"name": "aggregate_results_executor", "inputs": {}}
        examples.insert(0, json.dumps({"tasks": [task]}))
    return AgentSkill(
        id=name,
        name=f"{name}: operations",
        description=f"{summary} metadata.method names one of: {', '.join(operations)}.",
        tags=["operations", name],
        examples=examples,
    )


def _skill(executor: Mapping[str, Json]) -> AgentSkill:
    executor_id: str = executor["id"]
    example = {"tasks": [{"name": executor_id, "inputs": _example(executor["input_schema"])}]}
    return AgentSkill(
        id=executor_id,
        name=executor["name"] or executor_id,
        description=executor["description"] or f"Runs the executor {executor_id}.",
        tags=["executor"],
        examples=[json.dumps(example, default=str)],
    )


def _example(schema: Json) -> dict[str, Json]:
    """Return inputs from the examples and defaults of a schema: of each required property."""
    if not isinstance(schema, dict):
        return {}
    known = cast("dict[str, Json]", schema)
    properties = cast("dict[str, dict[str, Json]]", known.get("properties") or {})
    found: dict[str, Json] = {}
    required: list[str] = known.get("required") or []
    for name in required:
        each = properties.get(name) or {}
        examples: list[Json] = each.get("examples") or [each.get("default", "...")]
        found[name] = examples[0]
    return found


def _sign(card: AgentCard, settings: Settings) -> None:
    from apflow.server.a2a.signing import sign

    sign(card, settings)
