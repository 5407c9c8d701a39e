"""What a tree may touch outside of apflow: hosts, programs, images and secrets. Pure.

Executors take these in inputs (or params) of the same names, so that the names are enough to find them.
What a result or a secret fills in is known only in the run: such an input is listed as undetermined.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from apflow.core.model.task import GROUP, Json, Task
from apflow.core.payload.secrets import named_secrets
from apflow.core.permissions.capability_policy import UNDETERMINED, CapabilityPolicy
from apflow.core.planning.fan_out import called_tasks

HOST_INPUTS: Final = ("url", "base_url", "api_base", "server", "host", "agent")
AUTH_INPUTS: Final = ("token_url", "issuer")  # hosts, inside of `auth`
COMMAND_INPUTS: Final = ("command",)
IMAGE_INPUTS: Final = ("image",)

# With these, a shell runs more, or something else, than the first word of a string.
_SHELL_SYNTAX: Final = re.compile(r"[;&|<>()$`\n\\]")
_SINGULAR: Final = {
    "executors": "executor",
    "hosts": "host",
    "commands": "program",
    "images": "image",
    "secrets": "secret",
}


class Use(NamedTuple):
    """One thing that a task names."""

    kind: str  # one of `KINDS`
    value: str | None  # None: it is known only in the run, or cannot be read
    place: str  # such as "inputs.url"


@dataclass(slots=True)
class Capabilities:
    """What the tasks of a tree name, each once, in order.

    `undetermined` has the inputs whose value is known only in the run, as `TASK.inputs.NAME`.
    """

    executors: dict[str, None] = field(default_factory=dict[str, None])
    hosts: dict[str, None] = field(default_factory=dict[str, None])
    commands: dict[str, None] = field(default_factory=dict[str, None])
    images: dict[str, None] = field(default_factory=dict[str, None])
    secrets: dict[str, None] = field(default_factory=dict[str, None])
    undetermined: dict[str, None] = field(default_factory=dict[str, None])

    def to_dict(self) -> dict[str, Json]:
        """Return the lists as plain JSON."""
        names = ("executors", "hosts", "commands", "images", "secrets", "undetermined")
        return {name: list(getattr(self, name)) for name in names}


def capabilities_of(tasks: Sequence[Task], is_known: Callable[[str], bool] = lambda _: False) -> Capabilities:
    """Return what the tasks of a tree may touch, and the elements of their lists.

    Args:
        tasks: with `executor` decided.
        is_known: returns whether this process knows an executor id, for the tasks of templates.
    """
    found = Capabilities()
    for task in called_tasks(tasks, is_known):
        for use in uses_of(task):
            if use.value is None:
                found.undetermined[f"{task.key}.{use.place}"] = None
            else:
                getattr(found, use.kind)[use.value] = None
    return found


def uses_of(task: Task) -> Iterator[Use]:
    """Yield what a stored task names. Its `executor` is decided."""
    if task.executor not in (None, GROUP):
        yield Use("executors", str(task.executor), "executor")
    for place, values in (("inputs", task.inputs), ("params", task.params)):
        yield from uses_in(values, values, place)


def uses_in(values: Mapping[str, Json], written: Mapping[str, Json], place: str) -> Iterator[Use]:
    """Yield what inputs or params name.

    Args:
        values: as they are stored, or as the executor gets them.
        written: the same with secrets as references.
        place: "inputs" or "params".
    """
    for name in named_secrets(dict(written)):
        yield Use("secrets", name, place)
    yield from _named_in(values, place)


def refusals(uses: Iterable[Use], key: str, policy: CapabilityPolicy) -> Iterator[str]:
    """Yield, as sentences, which uses of a task with this key a policy does not permit."""
    for kind, value, place in uses:
        if value is None:
            if not policy.permits(UNDETERMINED, f"{key}.{place}"):
                yield (
                    f"{place} is not known before the run, or cannot be read as a {_SINGULAR[kind]}. Give it "
                    f"a plain value, or allow {f'{key}.{place}'!r} in `{UNDETERMINED}`: then the value is "
                    "checked when the task runs."
                )
        elif not policy.permits(kind, value):
            yield f"{place} names the {_SINGULAR[kind]} {value!r}, which `{kind}` does not allow."


def _named_in(values: Mapping[str, Json], place: str) -> Iterator[Use]:
    is_image = any(values.get(name) for name in IMAGE_INPUTS)  # its command runs inside of it
    for name in _given(values, HOST_INPUTS):
        yield Use("hosts", _host_of(values[name]), f"{place}.{name}")
    auth = values.get("auth")
    if isinstance(auth, dict):
        own = cast("dict[str, Json]", auth)
        for name in _given(own, AUTH_INPUTS):
            yield Use("hosts", _host_of(own[name]), f"{place}.auth.{name}")
    for name in () if is_image else _given(values, COMMAND_INPUTS):
        is_for_shell = bool(values.get("shell") or values.get("host"))  # of this machine, or of that host
        yield Use("commands", _program_of(values[name], is_for_shell=is_for_shell), f"{place}.{name}")
    for name in _given(values, IMAGE_INPUTS):
        yield Use("images", _text_of(values[name]), f"{place}.{name}")


def _given(values: Mapping[str, Json], names: Sequence[str]) -> list[str]:
    return [name for name in names if values.get(name) not in (None, "", [], {})]


def _text_of(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _host_of(value: Json) -> str | None:
    """Return the host of a URL or of `HOST:PORT`."""
    if not isinstance(value, str):
        return None
    try:
        return urlsplit(value if "://" in value else f"//{value}").hostname
    except ValueError:
        return None


def _program_of(value: Json, *, is_for_shell: bool) -> str | None:
    """Return the program of a command: its first word. A shell may run other programs, too."""
    if isinstance(value, list):
        return _text_of(cast("list[Json]", value)[0])
    if not isinstance(value, str) or (is_for_shell and _SHELL_SYNTAX.search(value)):
        return None
    try:
        words = shlex.split(value)
    except ValueError:
        return None
    return words[0] if words else None
