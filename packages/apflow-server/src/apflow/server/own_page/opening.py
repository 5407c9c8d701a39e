"""Opening the page of a database: that of the process which holds it, else that of a server for this user.

The server listens at a loopback address and identifies the owner of the database by a session, also if other
users have accounts on the machine. Commands find the process by its Unix socket, as they find any holder.
"""

from __future__ import annotations

import asyncio
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import replace

import click
from fastapi import FastAPI

from apflow.core.errors import StoreError
from apflow.core.extensions.user_modules import import_modules
from apflow.core.process.server_file import ServerInfo, find_server
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import create_session
from apflow.server.app import create_app
from apflow.server.auth.one_time import OneTimeTokens
from apflow.server.http.listening import Place, listen, local_url
from apflow.server.observability.logs import set_up as set_up_logs
from apflow.server.own_page.holder import page_of_holder
from apflow.server.process import lifecycle
from apflow.server.ui.files import PageMissingError, is_built

LOOPBACK = "127.0.0.1"


class NoPageError(StoreError):
    """Another process holds the database, and has no page."""

    def __init__(self, holder: ServerInfo) -> None:
        what = f"the server at {holder.url}" if holder.url else "which is not a server"
        super().__init__(
            f"{holder.database} is in use by process {holder.pid}, {what}, and that process has no page. "
            "Stop it (a daemon: `apflow daemon stop`) and repeat this command, or start it as `apflow serve`."
        )
        self.holder = holder


def open_page(settings: Settings, port: int = 0, *, has_browser: bool = True) -> None:
    """Open the page of a database, and serve it until a signal comes if no other process does.

    Args:
        port: where to listen; 0: at a free port.
        has_browser: whether to open a browser; the address is printed in any case.

    Raises:
        NoPageError: another process holds the database, and has no page.
        PageMissingError: this installation has no page.
        InvalidInputError: a module cannot be imported.
        CannotListenError: the port is not available.
        StoreError: the database cannot be opened.
    """
    set_up_logs(settings)
    db = create_session(settings.database_url)
    holder = find_server(db.file) if db.file is not None else None
    if holder is None:
        serve_page(settings, port, has_browser=has_browser)
        return
    address = page_of_holder(holder)
    if address is None:
        raise NoPageError(holder)
    show(address, has_browser=has_browser)


def serve_page(settings: Settings, port: int, *, has_browser: bool) -> None:
    """Serve a database to its owner in a browser, until a signal comes. Raises what `open_page` raises."""
    import_modules(settings.import_modules)
    tokens = OneTimeTokens()
    app = owners_app(settings, tokens)
    if not is_built(app.state.page_folder):
        raise PageMissingError
    db: TaskStore = app.state.db
    with listen(Place(LOOPBACK, port)) as bound:
        url = local_url(Place(LOOPBACK, bound.getsockname()[1])) or ""
        asyncio.run(_open(db))
        db.page_address = addresses(url, tokens)
        click.echo(f"Serving {db.url} at {url} to one browser. Ctrl-C ends this.", err=True)
        show(db.page_address(), has_browser=has_browser)
        try:
            lifecycle.serve(app, [bound])
        finally:
            db.page_address = None


def owners_app(settings: Settings, tokens: OneTimeTokens) -> FastAPI:
    """Return an application that takes only sessions of the owner of the database.

    Settings for callers from outside do not apply, because there are none. The key of stored credentials
    stays the same as that of a server with these settings.
    """
    own = replace(
        settings,
        ui=True,
        insecure=False,
        jwt_secret="",
        jwks_url="",
        jwt_algorithms=(),
        jwt_audience="",
        jwt_issuer="",
        a2a_grpc_bind="",
        credentials_key=settings.credentials_key or settings.jwt_secret,
    )
    app = create_app(own)
    app.state.token_check = tokens
    return app


def addresses(url: str, tokens: OneTimeTokens) -> Callable[[], str]:
    """Return what makes addresses of the page. The token is in the fragment, which no server sees."""
    return lambda: f"{url}/ui/#token={tokens.issue()}"


def show(address: str, *, has_browser: bool) -> None:
    """Print the address of the page, and open it."""
    click.echo(address)
    if has_browser:
        # Some browsers run in the terminal, and return when they end.
        threading.Thread(
            target=webbrowser.open, args=(address,), name="apflow:ui:browser", daemon=True
        ).start()


async def _open(db: TaskStore) -> None:
    await db.get(["any"])
