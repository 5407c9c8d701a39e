"""Tokens that `apflow login` keeps, one for each server, in a file that only its owner can read.

Completion of shells imports this module, so it imports no HTTP library.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.settings import file_of_settings, get_settings

TOKENS_FILE: Final = "tokens.json"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def token_for(url: str) -> str:
    """Return the token for a server: that of the settings, else the stored one, else "".

    Raises:
        SettingsError: the file of tokens cannot be read, or other users can read it.
    """
    return get_settings().api_token or stored_tokens().get(server_name(url), "")


def server_name(url: str) -> str:
    """Return the address of a server in the one form that all ways of writing it share.

    Raises:
        InvalidInputError: the address is invalid.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(f"{url!r} is not a valid address of a server: {error}.") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise InvalidInputError(
            f"{url!r} is not a valid address of a server. Give it as http://HOST:PORT or https://HOST, with "
            "the path of the server, if it has one."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{shown}{parts.path.rstrip('/')}"


def tokens_file() -> Path:
    """Return the path of the file: next to `apflow.toml` in the user's configuration directory."""
    return file_of_settings(of_project=False).with_name(TOKENS_FILE)


def stored_tokens() -> dict[str, str]:
    """Return the stored tokens by server.

    Raises:
        SettingsError: the file cannot be read, or other users can read it.
    """
    path = tokens_file()
    try:
        with path.open(encoding="utf-8") as file:
            _check_owner(path, os.fstat(file.fileno()))
            read: object = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Delete it, and log in again.") from error
    found = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    return {url: token for url, token in found.items() if isinstance(token, str) and token}


def _check_owner(path: Path, status: os.stat_result) -> None:
    if sys.platform != "win32" and (status.st_uid != os.geteuid() or status.st_mode & _OTHERS):
        raise SettingsError(
            f"{path} contains tokens, and other users can read or change it. Run: chmod 600 {path}; then log "
            "in again with new tokens."
        )


def store_token(url: str, token: str) -> None:
    """Store the token for a server in place of an earlier one.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    _write({**stored_tokens(), server_name(url): token})


def remove_token(url: str) -> bool:
    """Remove the token for a server, and return whether there was one.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    tokens = stored_tokens()
    if tokens.pop(server_name(url), None) is None:
        return False
    _write(tokens)
    return True


def _write(tokens: dict[str, str]) -> None:
    from apflow.core.process.atomic_file import OWNER_ONLY, write_whole  # here: most commands only read

    path = tokens_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if tokens:
            write_whole(path, json.dumps(tokens, indent=2, sort_keys=True) + "\n", OWNER_ONLY)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{path} cannot be changed: {error}.") from error
