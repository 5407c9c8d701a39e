"""What may be run here: decided before anything is started.

A list of allowed programs is only as good as the check that a program is the one that the list means.
What is compared is the real file; the folder of the task and the names that it gives to links decide nothing.
What is run has the name that was given, because programs act by the name that they are called by.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from apflow.executor.command.errors import CommandRefusedError, CommandStartError

ANY = "*"
SHELL = "/bin/sh"

# One file that is many programs, by the name it is called: of these the name must match as well.
MULTI_CALL = frozenset({"busybox", "toybox", "coreutils", "toolbox"})

# The only variables of this process's environment that a program inherits.
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SHELL", "TERM")

# Variables by which a program loads other code than its own.
LOADER_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_")
LOADER_NAMES = frozenset({"GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "NLSPATH"})
# The same for interpreters and shells. Refused unless any program may be run anyway.
INTERPRETER_NAMES = frozenset({
    "PATH", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "IFS", "PROMPT_COMMAND", "PYTHONPATH",
    "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONUSERBASE", "PERL5LIB",
    "PERL5OPT", "PERL5DB", "PERLLIB", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH",
    "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "LUA_INIT", "LUA_PATH",
    "LUA_CPATH", "PHPRC", "PHP_INI_SCAN_DIR", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF",
    "GIT_EXEC_PATH", "GIT_PAGER", "GIT_EDITOR", "GIT_ASKPASS", "GIT_PROXY_COMMAND", "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM", "GIT_CONFIG_COUNT", "PAGER", "EDITOR", "VISUAL", "LESSOPEN", "LESSCLOSE",
    "MANPAGER", "SSH_ASKPASS", "BROWSER", "OPENSSL_CONF", "OPENSSL_MODULES",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """Which programs may run on this machine."""

    allow: Sequence[str] = ()  # names or paths of programs; "*": any
    may_use_shell: bool = False

    @property
    def allows_any(self) -> bool:
        """Whether every program may run."""
        return ANY in self.allow


@dataclass(frozen=True, slots=True)
class Launch:
    """A validated description of the program to start."""

    argv: list[str]  # argv[0] as it was given
    executable: str  # the path to execute: absolute, and not in the hands of a task
    alias: str | None  # the name to execute it by, where a link of the task's own has another name
    cwd: str | None
    environment: dict[str, str]


def plan_launch(
    command: str | Sequence[str],
    policy: Policy,
    *,
    is_shell: bool = False,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Launch:
    """Return how to start a command.

    Raises:
        CommandRefusedError: the policy forbids it.
        CommandStartError: it names no program or folder.
    """
    if not policy.allow:
        raise CommandRefusedError(
            "Running commands is off. Name the programs that may run: "
            "APFLOW_COMMAND_ALLOW=ls,cat (* allows any)."
        )
    if is_shell and not policy.may_use_shell:
        raise CommandRefusedError("The use of a shell is off. APFLOW_COMMAND_SHELL=true turns it on.")
    argv = _shell_arguments(command) if is_shell else split(command)
    _refuse_null("The command", *argv)
    if cwd is not None:
        _refuse_null("cwd", cwd)
        if not Path(cwd).is_dir():
            raise CommandStartError(f"There is no folder {cwd!r} to run {argv[0]!r} in.")
    environment = build_environment(env or {}, policy, os.environ)
    executable, alias = resolve(argv[0], policy, cwd)
    return Launch(argv, executable, alias, cwd, environment)


def split(command: str | Sequence[str]) -> list[str]:
    """Return the arguments of a command: a list unchanged, a string split by the rules of shlex."""
    try:
        argv = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise CommandStartError(f"The command {command!r} cannot be split: {error}.") from error
    if not argv or not argv[0]:
        raise CommandStartError(f"The command {command!r} names no program.")
    return argv


def resolve(program: str, policy: Policy, cwd: str | None) -> tuple[str, str | None]:
    """Return the path by which to execute a program that the policy allows, and the name if it has another.

    A link that the policy names is executed directly. Any other link could point elsewhere by the time it is
    executed: the result is the real file, and the name of the link.
    """
    located = _locate(program, cwd)
    if located is None:
        raise CommandStartError(f"There is no executable program {program!r} here.")
    real = os.path.realpath(located)
    meant = [path for path in map(_locate, policy.allow) if path and _is_meant(path, located, real)]
    if policy.allows_any or located in meant:
        return located, None
    if meant:
        name = Path(located).name
        return real, None if name == Path(real).name else name
    shown = real if real == program else f"{program} ({real})"
    raise CommandRefusedError(
        f"{shown} is not among the programs that APFLOW_COMMAND_ALLOW names: {', '.join(policy.allow)}."
    )


def build_environment(env: Mapping[str, str], policy: Policy, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: a few variables of ours, and what the task gives."""
    for name, value in env.items():
        _refuse_null(f"env.{name}", name, value)
        if not name or "=" in name:
            raise CommandRefusedError(f"{name!r} is not a valid name of an environment variable.")
        if name.startswith(LOADER_PREFIXES) or name in LOADER_NAMES:
            raise CommandRefusedError(
                f"env.{name} is refused: it makes programs load other code than their own."
            )
        if name in INTERPRETER_NAMES and not policy.allows_any:
            raise CommandRefusedError(
                f"env.{name} is refused: an allowed program could run other code with it. "
                f"It is accepted where APFLOW_COMMAND_ALLOW is *."
            )
    passed = {name: inherited[name] for name in inherited if name in PASSED_ON or name.startswith("LC_")}
    return passed | dict(env)


def _shell_arguments(command: str | Sequence[str]) -> list[str]:
    if not isinstance(command, str):
        raise CommandStartError("With a shell, the command must be a string, not a list.")
    return [SHELL, "-c", command]


def _locate(program: str, cwd: str | None = None) -> str | None:
    """Return where a program is: by its path, from the task's folder, or on this process's PATH."""
    path = str(Path(cwd or ".", program).absolute()) if "/" in program else program
    located = shutil.which(path)
    return None if located is None else os.path.abspath(located)  # noqa: PTH100  resolve() follows links


def _is_meant(meant: str, located: str, real: str) -> bool:
    if os.path.realpath(meant) != real:
        return False
    names = {Path(located).name, Path(meant).name}
    return len(names) == 1 or Path(real).name not in MULTI_CALL or Path(meant).name in MULTI_CALL


def _refuse_null(where: str, *texts: str) -> None:
    if any("\0" in text for text in texts):
        raise CommandRefusedError(f"{where} contains a null byte, which no program can be given.")
