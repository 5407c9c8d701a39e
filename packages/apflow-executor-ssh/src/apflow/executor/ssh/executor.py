"""The executor that runs a command on another machine."""

from __future__ import annotations

import asyncio
import random
import shlex
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from apflow.core.concurrency.fair_semaphore import host_semaphore
from apflow.core.concurrency.thread_pool import ThreadPool
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.net.connect import open_socket
from apflow.executor.ssh.errors import SshCommandFailedError, SshDroppedError, SshTimeoutError
from apflow.executor.ssh.request import SshRequest, read_request
from apflow.executor.ssh.schema import SCHEMA
from apflow.executor.ssh.session import Session

CALLS = 64  # at once, in this process
# At once, to one host and port: sshd begins to drop at 10 that have not logged in (MaxStartups 10:30:100).
LOGINS = 6
LOGIN_SECONDS = 30.0  # at most, whatever the task's timeout: for a server that hangs before it runs anything
TRIES_AFTER = (0.3, 1.0, 2.0)  # seconds, where a busy server closes the connection before it says a word
SHOWN_LENGTH = 200

_threads = ThreadPool("apflow-ssh", CALLS)


class SshExecutor(BaseTask):
    """Runs one command on another machine, by SSH."""

    id = "ssh_executor"
    name = "SSH"
    description = "Runs a command on another machine by SSH and returns its output and exit code."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True
    max_concurrency = CALLS
    _session: Session | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Log in, run the command and log out.

        Raises:
            SshError: one of its kinds, or one of the core's network errors. Nothing runs there any more then.
        """
        request = read_request(inputs)
        session = self._session = Session(request)
        try:
            return_code = await _run(request, session)
        finally:
            session.close()  # done already, unless this was cancelled between two steps
        if return_code != 0 and request.is_checked:
            raise SshCommandFailedError(
                _shown(request),
                request.host,
                return_code,
                session.stdout.tail,
                session.stderr.tail,
                session.note,
            )
        return {
            "command": inputs["command"],
            "stdout": session.stdout.text,
            "stderr": session.stderr.text,
            "return_code": return_code,
            "success": return_code == 0,
            "host": request.host,
            "username": request.username,
            **({"note": session.note} if session.note else {}),
        }

    async def cancel(self) -> dict[str, Any]:
        """Return what the command has said so far. The end of `execute` is what ends the command."""
        if self._session is None:
            return {"status": "cancelled"}
        said = {"stdout": self._session.stdout.text, "stderr": self._session.stderr.text}
        return {"status": "cancelled", "partial_result": said}


async def _run(request: SshRequest, session: Session) -> int:
    """Run the command and return its exit code. Waiting for a place does not count as the task's time."""
    login = AsyncExitStack()
    async with login:
        await login.enter_async_context(
            host_semaphore(SshExecutor.id, f"{request.host}:{request.port}", LOGINS)
        )
        # As many places as threads: no call waits for a thread once its time runs.
        async with host_semaphore(SshExecutor.id, "any", CALLS):
            seconds = request.timeout
            try:
                async with asyncio.timeout(request.timeout):
                    seconds = min(request.timeout, LOGIN_SECONDS)
                    async with asyncio.timeout(LOGIN_SECONDS):
                        await _log_in(request, session)
                    seconds = request.timeout
                    await login.aclose()
                    return await _threads.run(session.run, stop=session.stop)
            except TimeoutError as error:
                raise SshTimeoutError(
                    request.host, seconds, session.stage, session.stdout.tail, session.stderr.tail
                ) from error


async def _log_in(request: SshRequest, session: Session) -> None:
    await _threads.run(session.load)
    for wait in TRIES_AFTER:
        try:
            return await _connect(request, session)
        except SshDroppedError:
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - nothing secret
    return await _connect(request, session)


async def _connect(request: SshRequest, session: Session) -> None:
    sock = await open_socket(request.host, request.port)
    try:
        await _threads.run(lambda: session.prepare(sock), stop=session.stop)
    except BaseException:
        sock.close()  # where it never came to that
        raise


def _shown(request: SshRequest) -> str:
    text = request.command if isinstance(request.command, str) else shlex.join(request.command)
    return f"`{text}`" if len(text) <= SHOWN_LENGTH else f"`{text[:SHOWN_LENGTH]}...`"
