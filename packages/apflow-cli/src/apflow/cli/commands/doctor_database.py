"""What `apflow doctor` finds around the database: room, permissions, the holder, and missing secrets."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from apflow.cli.display.names import counted
from apflow.core.errors import SecretNotFoundError, SecretUnusableError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.payload.secrets import find_secret, named_secrets
from apflow.core.process.server_file import find_server
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore

MIN_FREE_BYTES: Final = 100 << 20  # beyond the size of the database, of which a migration makes a copy
PAGE: Final = 1000  # tasks
MAX_PAGES: Final = 50  # of tasks whose secrets are looked for
SHOWN: Final = 3  # tasks in a message
PROC: Final = Path("/proc")

Finding = tuple[bool, str]  # whether it is good, and what it is


def find_room(file: Path) -> Finding:
    """Return whether the disk of a database file has room for it to grow and to be copied."""
    folder = _existing_folder(file)
    free = shutil.disk_usage(folder).free
    size = file.stat().st_size if file.is_file() else 0
    wanted = size + MIN_FREE_BYTES
    detail = f"{free / 1e9:,.1f} GB are free at {folder}"
    if free >= wanted:
        return True, detail
    return False, f"{detail}; have at least {wanted / 1e9:,.1f} GB, which a copy of the database takes."


def find_permissions(file: Path) -> Finding:
    """Return whether this user, and no other one, can change a database file."""
    folder = _existing_folder(file)
    if not os.access(folder, os.W_OK | os.X_OK):
        return False, f"This user cannot write in {folder}, where DuckDB has its log and its lock."
    if not file.exists():
        return True, f"{file} does not exist yet; it can be created"
    mode = stat.S_IMODE(file.stat().st_mode)
    if not os.access(file, os.R_OK | os.W_OK):
        return False, f"This user cannot read and write {file} (mode {mode:03o})."
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False, f"Other users can change {file} (mode {mode:03o}): chmod 600 {file}"
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return True, f"other users can read {file} (mode {mode:03o}); chmod 600 keeps it private"
    return True, f"{file} (mode {mode:03o})"


def _existing_folder(file: Path) -> Path:
    """Return the nearest folder above a file that exists."""
    return next(each for each in file.parents if each.is_dir())


def find_holder_of(file: Path) -> Finding:
    """Return which process holds a database file."""
    holder = find_server(file)
    if holder is None:
        return True, "no process has the database open"
    where = holder.url or holder.socket or "no address"
    return (
        True,
        f"process {holder.pid}{_command_of(holder.pid)} has the database open, and answers at {where}",
    )


def find_daemon(db: TaskStore) -> Finding:
    """Return whether the daemon of a database runs."""
    from apflow.cli.session.daemon_files import DaemonFiles

    state = DaemonFiles(db).read()
    if state is None:
        return True, "does not run"
    return True, f"process {state.pid}, {state.state} since {state.since}; its log is {state.log}"


async def find_secrets(service: TaskService) -> Finding:
    """Return whether every secret that a task names which has not ended can be found."""
    users: dict[str, list[str]] = {}
    count = 0
    async for task in _unfinished(service):
        count += 1
        for name in named_secrets([task["inputs"], task["params"]]):
            users.setdefault(name, []).append(task["id"])
    missing = {name: found for name, found in users.items() if not _is_set(name)}
    if not missing:
        have = "has" if count == 1 else "have"
        return True, f"{len(users)} named by {counted(count, 'task')} that {have} not ended, all set"
    named = "; ".join(f"{name}, named by {_shown(found)}" for name, found in sorted(missing.items()))
    return False, f"Not set: {named}. Set APFLOW_SECRET_<NAME> where the tasks run."


def _is_set(name: str) -> bool:
    try:
        find_secret(name)
    except (SecretNotFoundError, SecretUnusableError):
        return False
    return True


async def _unfinished(service: TaskService) -> AsyncIterator[dict[str, Json]]:
    for status in (TaskStatus.PENDING, TaskStatus.IN_PROGRESS):
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await service.list(
                status=[status], root_only=False, limit=PAGE, cursor=cursor, order="created_at"
            )
            for each in page:
                yield each
            if len(page) < PAGE:
                break
            cursor = page[-1]["id"]


def _command_of(pid: int) -> str:
    """Return the command line of a process in parentheses; nothing where the system does not tell."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = b" ".join(words).decode(errors="replace").strip()
    return f" ({text[:80]})" if text else ""


def _shown(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more
