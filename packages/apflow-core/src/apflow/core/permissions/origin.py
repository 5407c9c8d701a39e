"""Who wrote a tree, and what its tasks may therefore use.

A server that identifies its callers by tokens stores, with each tree, every caller who wrote a part of it:
the creator, and every caller who changed a task later. The tree may use what all of them may use, so no
caller gains access through a tree that another one wrote. A tree without authors comes from this machine (a
command or a program that opens the database) and is trusted.

The origin of the task that runs is in a context variable, which executors' threads and asyncio tasks inherit.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Protocol, cast

from apflow.core.errors import SecretHostRefusedError
from apflow.core.model.task import Json
from apflow.core.permissions.secret_policy import Author, Permission, secret_policy
from apflow.core.settings import get_settings

Authors = tuple[Author, ...]


@dataclass(slots=True)
class Origin:
    """Who wrote the tree of the task that runs, and which secrets the task holds.

    `authors` is None for a tree that comes from this machine.
    """

    authors: Authors | None
    executor: str
    can_bind: bool = False  # the executor connects through `apflow.core.net.connect` only
    permissions: dict[str, Permission] = field(default_factory=dict[str, Permission])

    @property
    def is_remote(self) -> bool:
        """Whether a client of a server wrote a part of the tree."""
        return self.authors is not None

    def permit(self, name: str) -> None:
        """Record the use of a secret.

        Raises:
            SecretRefusedError: one of the authors may not use it here.
        """
        policy = secret_policy()
        self.permissions[name] = policy.permit(name, self.authors, self.executor, can_bind=self.can_bind)

    def check_host(self, host: str, port: int | None) -> None:
        """Raise `SecretHostRefusedError` where a secret that the task holds is not granted for a host."""
        for name, permission in self.permissions.items():
            if not permission.allows_host(host, port):
                raise SecretHostRefusedError(name, host, permission.hosts or ())


_current: ContextVar[Origin | None] = ContextVar("apflow_origin", default=None)


def current_origin() -> Origin | None:
    """Return the origin of the task that runs; None outside of tasks."""
    return _current.get()


@contextmanager
def working_for(origin: Origin) -> Generator[None]:
    """Make an origin the current one."""
    token = begin_work_for(origin)
    try:
        yield
    finally:
        end_work_for(token)


def begin_work_for(origin: Origin) -> Token[Origin | None]:
    """Make an origin the current one until `end_work_for` is called with what this returns.

    A context manager costs as much as the rest of a short call.
    """
    return _current.set(origin)


def end_work_for(token: Token[Origin | None]) -> None:
    """Make the former origin the current one again."""
    _current.reset(token)


def check_host(host: str, port: int | None) -> None:
    """Raise `SecretHostRefusedError` where the task that runs holds a secret not granted for a host."""
    origin = _current.get()
    if origin is not None and origin.permissions:
        origin.check_host(host, port)


class Written(Protocol):
    """What callers of a server write, and a user has: the root of a tree, or a webhook."""

    @property
    def written_by(self) -> list[dict[str, Json]] | None: ...

    @property
    def user_id(self) -> str | None: ...


def authors_of(written: Written) -> Authors | None:
    """Return who wrote a tree; None where it comes from this machine.

    A tree of a user without stored authors, in a process that knows its callers by tokens, was written before
    authors were stored: it is treated as that user's own.
    """
    if written.written_by is not None:
        return read_authors(written.written_by)
    if written.user_id is not None and get_settings().has_tokens:
        return (Author(written.user_id),)
    return None


def read_authors(stored: Sequence[Mapping[str, Json]]) -> Authors:
    """Return authors from the form in which a root stores them."""
    return tuple(Author(str(each["user"]), tuple(cast("list[str]", each["roles"]))) for each in stored)


def with_author(root: Written, author: Author | None) -> list[dict[str, Json]] | None:
    """Return what a root stores once an author has written to its tree; an author of None is this machine."""
    known = authors_of(root)
    if author is None:
        return root.written_by
    return as_json((*(known or ()), *(() if author in (known or ()) else (author,))))


def as_json(authors: Authors) -> list[dict[str, Json]]:
    """Return authors in the form in which a root stores them."""
    return [{"user": each.user, "roles": list(each.roles)} for each in authors]
