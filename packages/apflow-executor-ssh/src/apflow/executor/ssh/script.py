"""The remote scripts: one runs the command, the keeper ends it when the connection is lost.

A server without a terminal leaves a command running when its connection ends. So each connection has two
sessions: in one a shell turns itself into the command, in the other a shell waits. When that one's input ends
without the final message, it ends the command's process group. This also happens when this program is
killed, or the network fails.

Both shells report that they are ready before anything is sent to them. The command and its environment
are sent over standard input, so that no variable appears in process lists. The two lines below are read
by the user's login shell, whichever it is (csh and fish, too): between their quotes there are no single
quotes, no `!` and no backslash.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from apflow.executor.ssh.errors import SshInputError

MAX_COMMAND_BYTES = 128 << 10  # of command and environment: about what systems give a program

# Read byte by byte: what follows is the command's own input. A script that does not arrive whole is a `{`
# that is not closed, which no shell runs.
_LEADER = 'echo %s $$; s=$(dd bs=1 count=%d 2>/dev/null); eval "${s:-exit 126}"'
# `read x` succeeds only if there was a line to read. A group receives SIGTERM, and after 0.8 s SIGKILL.
_KEEPER = (
    "exec 2>/dev/null; echo %s $$; read g || exit; read x && exit; "
    "k() { kill -$1 -$g || kill -$1 $g; }; k TERM; "
    "for i in 1 2 3 4 5 6 7 8; do k 0 || exit; sleep 0.1 || { sleep 1; break; }; done; k KILL"
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def leader_line(mark: str, script: bytes) -> str:
    """Return the line whose shell reads `script` from its input and becomes the command."""
    return f"exec sh -c '{_LEADER % (mark, len(script))}'"


def keeper_line(mark: str) -> str:
    """Return the line whose shell reads the number of a process group, and ends that when its input ends."""
    return f"exec sh -c '{_KEEPER % mark}'"


def command_script(command: str | Sequence[str], env: Mapping[str, str]) -> bytes:
    """Return the script that sets the environment and turns the shell into the command.

    A string is passed to the user's login shell, as the server would do. A list is a program and its
    arguments, which no shell interprets.

    Raises:
        SshInputError: something in it cannot be given to a program.
    """
    lines = ['{ set -- "${SHELL:-/bin/sh}"', *(f"export {_assignment(*each)}" for each in env.items())]
    if isinstance(command, str):
        lines.append(f'exec "$1" -c {shlex.quote(command)}')
    else:
        if not command or not command[0] or command[0].startswith("-"):
            raise SshInputError("The command names no program: its first element is the program to run.")
        lines.append(f"exec {shlex.join(command)}")
    script = "\n".join([*lines, "}"])
    if "\0" in script:
        raise SshInputError("The command or env contains a null byte, which no program can be given.")
    try:
        data = script.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise SshInputError("The command or env contains text that is not Unicode.") from error
    if len(data) > MAX_COMMAND_BYTES:
        raise SshInputError(
            f"The command and env take {len(data)} bytes, more than the "
            f"{MAX_COMMAND_BYTES} that a program can be given. Send large data as stdin."
        )
    return data


def _assignment(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise SshInputError(f"{name!r} is not a valid name of an environment variable.")
    return f"{name}={shlex.quote(value)}"
