"""The former names of the protocols. One server serves them all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from apflow.core.errors import InvalidInputError

__all__ = ["check_protocol_dependency", "get_protocol_from_env", "get_supported_protocols"]

# Protocol -> the module that it needs beside the server, and the extra that installs it.
_NEEDS: Mapping[str, tuple[str, str] | None] = {
    "a2a": ("a2a", "a2a"),
    "mcp": ("mcp", "a2a"),
    "jsonrpc": None,
    "rest": None,
}


def get_supported_protocols() -> list[str]:
    """Return the names of the protocols that the server speaks."""
    return list(_NEEDS)


def get_protocol_from_env() -> str:
    """Return the protocol that `AIPARTNERUPFLOW_API_PROTOCOL` names in lower case; "a2a" if it is not set."""
    return os.environ.get("AIPARTNERUPFLOW_API_PROTOCOL", "a2a").lower()


def check_protocol_dependency(protocol: str) -> None:
    """Raise an error unless the server can speak a protocol.

    Raises:
        InvalidInputError: there is no such protocol.
        ImportError: the library of the protocol is not installed.
    """
    name = protocol.lower()
    if name not in _NEEDS:
        raise InvalidInputError(f"There is no protocol {protocol!r}. There are: {', '.join(_NEEDS)}.")
    needed = _NEEDS[name]
    if needed is not None and find_spec(needed[0]) is None:
        raise ImportError(
            f"The protocol {name} needs the package {needed[0]}. Install it, from the folder or the wheel "
            f"that this package came from: pip install 'aipartnerupflow[{needed[1]}]'."
        )
