"""Where a command looked: the database, or the server that is named."""

from __future__ import annotations

from apflow.cli.inputs.options import Session
from apflow.cli.session.work import server_of
from apflow.core.store.session import get_default_session
from apflow.core.store.shown_url import shown_url


def place_of(session: Session) -> str:
    """Return the name of the database or the server, as messages show it."""
    url = server_of(session)
    return f"the server {url}" if url else shown_url(get_default_session().url)
