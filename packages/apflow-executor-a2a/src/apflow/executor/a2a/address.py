"""The URL of an agent, and of its card. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from apflow.executor.a2a.errors import A2aInputError

CARD_PATH: Final = "/.well-known/agent-card.json"
SHOWN_LENGTH: Final = 200

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Where the card of an agent is. `shown` is the URL without its query, which may hold a credential."""

    card_url: str
    host: str
    is_secure: bool
    shown: str


def find_agent(text: str, agents: Mapping[str, str]) -> AgentAddress:
    """Return the address of an agent that is named, or given by its URL.

    Args:
        agents: the URLs of known agents by name.

    Raises:
        A2aInputError: it is neither a known name nor a valid URL.
    """
    if "://" in text:
        return read_address(text, "agent")
    if text not in agents:
        known = ", ".join(sorted(agents)) or "none"
        raise A2aInputError(
            "agent",
            "is neither a URL that begins with http:// or https://, nor a name in the setting "
            f"APFLOW_A2A_AGENTS (known names: {known})",
        )
    return read_address(agents[text], f"APFLOW_A2A_AGENTS: {text}")


def read_address(text: str, name: str) -> AgentAddress:
    """Return the address that a URL gives.

    Args:
        name: what the message of an error calls the URL.

    Raises:
        A2aInputError: it is not a valid URL of an agent. The message omits the URL, which may contain a
            password.
    """
    if _UNSAFE.search(text):
        raise A2aInputError(name, "contains a space, a backslash or a control character")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):  # the message may contain a password
        raise A2aInputError(name, "is not a valid URL") from None
    _check(url, name)
    has_card = url.path.endswith(".json") or "/.well-known/" in url.path
    if url.query and not has_card:
        raise A2aInputError(name, "has a query (?), which only the URL of an agent card may have")
    card = url if has_card else url.copy_with(path=url.path.rstrip("/") + CARD_PATH)
    shown = str(url.copy_with(query=None))[:SHOWN_LENGTH]
    return AgentAddress(str(card), url.host.lower(), url.scheme == "https", shown)


def _check(url: httpx.URL, name: str) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise A2aInputError(name, "must be a URL that begins with http:// or https://")
    if url.userinfo:
        raise A2aInputError(
            name, "contains a user name or a password: use `auth_token` or `headers` for credentials"
        )
    if url.fragment:
        raise A2aInputError(name, "contains a fragment (#)")
