"""Starting the server as the command line asks for it: one process, several, or one that reloads."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass

import click
import uvicorn

from apflow.core.errors import InvalidInputError
from apflow.core.extensions.user_modules import import_modules
from apflow.core.process.server_file import describe_this_server, published
from apflow.core.settings import Settings, get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import create_session
from apflow.server.app import create_app
from apflow.server.http.listening import Place, check_place, listen, local_url, read_place
from apflow.server.http.protection import has_auth
from apflow.server.observability import audit
from apflow.server.observability.logs import set_up as set_up_logs
from apflow.server.process import lifecycle
from apflow.server.process.fleet import Fleet, drain_with_parent, drain_without_parent
from apflow.server.ui.files import is_built

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the command line says of a start."""

    host: str | None = None
    port: int | None = None
    workers: int = 1
    has_reload: bool = False
    fd: int | None = None  # a socket that is bound already
    parent: int | None = None  # a pipe that closes when the process that started this one dies


def start(settings: Settings, wanted: Start) -> None:
    """Serve until a signal comes.

    Raises:
        SettingsError: the settings are unsafe, or a value is invalid.
        InvalidInputError: the database admits one process only, and several were asked for; or a module
            cannot be imported.
        CannotListenError: the address is not available.
        StoreError: the database cannot be opened.
    """
    set_up_logs(settings)
    audit.logger.setLevel(logging.INFO)  # whatever else is logged
    if wanted.parent is not None:
        drain_with_parent(wanted.parent)
    if wanted.fd is not None:
        lifecycle.serve(create_app(settings), [socket.socket(fileno=wanted.fd)])
        return
    place = place_of(settings, wanted)
    check_place(place, settings)
    db = create_session(settings.database_url)
    check_sharing(db, wanted)
    import_modules(settings.import_modules)
    app = create_app(settings)  # raises for invalid settings, before anything is opened
    with listen(place) as bound:
        host, port = bound.getsockname()[:2]
        if wanted.workers == 1 and not wanted.has_reload:
            asyncio.run(_open(db))
        click.echo(f"Serving {db.url} at http://{Place(host, port)}. SIGTERM or Ctrl-C ends this.", err=True)
        if settings.ui and is_built(app.state.page_folder):
            click.echo(f"The page is at http://{Place(host, port)}/ui/.", err=True)
        if wanted.has_reload:
            _reload(bound)
        elif wanted.workers > 1:
            code = Fleet(wanted.workers, bound).run()
            if code:
                raise click.exceptions.Exit(code)
        else:
            with ExitStack() as told_while:
                tell_commands(told_while, db, Place(host, port), settings)
                lifecycle.serve(app, [bound], before_end=told_while.close)


def place_of(settings: Settings, wanted: Start) -> Place:
    """Return where to listen: the command line wins over the setting."""
    place = read_place(settings.bind)
    host = place.host if wanted.host is None else wanted.host
    return Place(host, place.port if wanted.port is None else wanted.port)


def check_sharing(db: TaskStore, wanted: Start) -> None:
    """Check that the store admits as many processes as are wanted.

    Raises:
        InvalidInputError: it admits one only.
    """
    if db.capabilities.is_shared or (wanted.workers == 1 and not wanted.has_reload):
        return
    option = "--reload" if wanted.has_reload else "--workers"
    kind = db.url.partition(":")[0]
    raise InvalidInputError(
        f"{option} takes a database that several processes share, and {kind}:// admits one process. One is "
        "enough: it runs many tasks at once. Or set APFLOW_DATABASE_URL to a PostgreSQL."
    )


def tell_commands(told_while: ExitStack, db: TaskStore, place: Place, settings: Settings) -> None:
    """Tell commands of this machine where the server is, if it keeps its database from them."""
    url = local_url(place)
    if db.file is None or url is None:
        return
    try:
        told_while.enter_context(
            published(describe_this_server(db.file, url, needs_token=has_auth(settings)))
        )
    except OSError as error:
        logger.warning("Commands do not find this server by themselves: %s", error)


async def _open(db: TaskStore) -> None:
    await db.get(["any"])


def _reload(bound: socket.socket) -> None:
    """Serve in a process that is restarted when a file changes."""
    from uvicorn.supervisors import ChangeReload

    class Reload(ChangeReload):  # type: ignore[valid-type, misc]  # which of two classes is decided at run time
        """Ends at SIGHUP as at SIGTERM, where `nohup` does not ignore it."""

        def startup(self) -> None:
            if lifecycle.HANGUP is not None and lifecycle.heeds_hangup():
                signal.signal(lifecycle.HANGUP, self.signal_handler)
            super().startup()

    # The application is a name here, because the configuration travels to the other process.
    config = uvicorn.Config("apflow.server.app:create_app", factory=True, reload=True, log_config=None)
    Reload(config, target=_serve_again, sockets=[bound]).run()


def _serve_again(sockets: list[socket.socket] | None) -> None:
    _drain_with_reload()
    lifecycle.serve(create_app(get_settings()), sockets or [])


def _drain_with_reload() -> None:
    """Drain this process when the one that restarts it has died."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        drain_without_parent()

    threading.Thread(target=wait, name="apflow:server:parent", daemon=True).start()
