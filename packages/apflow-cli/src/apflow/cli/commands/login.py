"""`apflow login`, `logout` and `whoami`: the tokens of servers, and who they identify."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.completion import complete_server
from apflow.cli.inputs.options import finish, session_of, with_output, with_service

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

MAX_TOKEN_LENGTH = 16_384  # characters


@click.command()
@click.argument("url", shell_complete=complete_server)
@with_output
@click.pass_context
def login(ctx: click.Context, url: str) -> None:
    """Store the token for a server.

    The token is asked for on a terminal, and read from standard input otherwise. It is stored only if the
    server accepts it, in a file that only you can read. Commands use it for that server unless
    APFLOW_API_TOKEN is set.
    """
    from apflow.cli.display.output import write_json, write_line, write_note
    from apflow.cli.inputs.stored_tokens import server_name, store_token, tokens_file
    from apflow.cli.session.preparation import prepare
    from apflow.core.settings import get_settings

    prepare(session_of(ctx))
    server = server_name(url)
    _warn_of_plain_text(server)
    token = _read_token(server)
    caller = _caller(server, token)
    is_stored = caller["user_id"] is not None
    if is_stored:
        store_token(server, token)
        if get_settings().api_token:
            write_note("APFLOW_API_TOKEN is set, and takes precedence over the stored token.")
    if session_of(ctx).is_json:
        write_json({"server": server, "is_stored": is_stored, **caller})
    elif is_stored:
        write_line(f"Logged in to {server} as {caller['user_id']}. The token is in {tokens_file()}.")
    else:
        write_line(f"{server} accepts requests without a token, so none is stored.")


def _warn_of_plain_text(server: str) -> None:
    from urllib.parse import urlsplit

    from apflow.cli.display.output import write_note

    host = urlsplit(server).hostname or ""
    if server.startswith("http:") and host not in ("localhost", "::1") and not host.startswith("127."):
        write_note(
            f"Warning: tokens are sent to {server} unencrypted. Use https outside of a trusted network."
        )


def _read_token(server: str) -> str:
    """Read a token from the terminal without showing it, or from standard input.

    Raises:
        click.UsageError: there is none, or it cannot be sent.
    """
    if sys.stdin.isatty():
        token: str = click.prompt(f"Token for {server}", hide_input=True, err=True)
    else:
        token = sys.stdin.read(MAX_TOKEN_LENGTH + 1)
    token = token.strip()
    if not token:
        raise click.UsageError("There is no token. Give it on standard input: apflow login URL < FILE.")
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError(
            "The token cannot be sent: it must be one line of ASCII characters without spaces, of at most "
            f"{MAX_TOKEN_LENGTH} characters."
        )
    return token


def _caller(server: str, token: str) -> dict[str, Any]:
    """Return who a token identifies at a server."""
    from apflow.cli.session.holder import CONNECT_TIMEOUT_SECONDS
    from apflow.cli.session.signals import run_until_interrupted
    from apflow.client import Client

    async def ask() -> dict[str, Any]:
        async with Client(server, token, patience=CONNECT_TIMEOUT_SECONDS) as client:
            found: dict[str, Any] = await client.call("system.whoami")
            return found

    return run_until_interrupted(ask())


@click.command()
@click.argument("url", required=False, shell_complete=complete_server)
@with_output
@click.pass_context
def logout(ctx: click.Context, url: str | None) -> None:
    """Remove the stored token for a server: for URL, or the only one."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.inputs.stored_tokens import remove_token, server_name, stored_tokens

    known = sorted(stored_tokens())
    if url is None and len(known) > 1:
        raise click.UsageError(f"Name the server: tokens are stored for {', '.join(known)}.")
    server = server_name(url) if url is not None else (known or [""])[0]
    is_removed = bool(server) and remove_token(server)
    if session_of(ctx).is_json:
        write_json({"server": server or None, "is_removed": is_removed})
    elif is_removed:
        write_line(f"Logged out of {server}: its token is removed.")
    else:
        stored = f" Tokens are stored for {', '.join(known)}." if known else ""
        write_line(f"No token is stored{f' for {server}' if server else ''}.{stored}")
    finish(ExitCode.DONE if is_removed else ExitCode.NOT_FOUND)


@click.command()
@with_service
@click.pass_context
def whoami(ctx: click.Context) -> None:
    """Show who you are to the server, or to the database, that commands use."""
    from apflow.cli.display.output import write_fields, write_json
    from apflow.cli.session.work import perform, server_of

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.whoami()

    caller = perform(ctx, work)
    server = server_of(session_of(ctx)) or None
    found = {"server": server, "token_from": _token_source(server), **caller}
    if session_of(ctx).is_json:
        write_json(found)
        return
    user = caller["user_id"] or "(the owner of the database: no authentication)"
    write_fields({**found, "user_id": user, "roles": ", ".join(caller["roles"])})


def _token_source(server: str | None) -> str | None:
    """Return what gives the token for a server; None if no token is used."""
    from apflow.cli.inputs.stored_tokens import server_name, stored_tokens, tokens_file
    from apflow.core.settings import find_setting

    if server is None:
        return None
    setting = find_setting("api_token")
    if setting.value:
        return setting.source
    return str(tokens_file()) if server_name(server) in stored_tokens() else None
