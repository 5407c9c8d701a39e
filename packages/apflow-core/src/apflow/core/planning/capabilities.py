"""What a tree may touch outside of apflow: hosts, programs, images and secrets. Pure.

Executors take these in inputs of the same names, so that the names of the inputs are enough to find them.
What a result or a secret fills in is known only in the run: such an input is listed as undetermined.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

from apflow.core.model.for_each import has_for_each
from apflow.core.model.task import GROUP, Json, Task
from apflow.core.payload.secrets import named_secrets
from apflow.core.planning.fan_out import templates_within
from apflow.core.planning.plan import choose_executor

HOST_INPUTS: Final = ("url", "base_url", "api_base", "server", "host")
COMMAND_INPUTS: Final = ("command",)
IMAGE_INPUTS: Final = ("image",)


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
    for task in [*tasks, *templates_within(tasks)]:
        if has_for_each(task):
            continue  # its template is among the tasks
        executor = task.executor or choose_executor(task, is_known)
        if executor not in (None, GROUP):
            found.executors[str(executor)] = None
        for name in (*named_secrets(task.inputs), *named_secrets(task.params)):
            found.secrets[name] = None
        _look_at_inputs(task, found)
    return found


def _look_at_inputs(task: Task, found: Capabilities) -> None:
    is_image = any(task.inputs.get(name) for name in IMAGE_INPUTS)  # its command runs inside of it
    kinds = (
        (HOST_INPUTS, found.hosts, _host_of),
        (() if is_image else COMMAND_INPUTS, found.commands, _program_of),
        (IMAGE_INPUTS, found.images, _text_of),
    )
    for names, into, read in kinds:
        for name in _given(task.inputs, names):
            value = read(task.inputs[name])
            if value:
                into[value] = None
            else:
                found.undetermined[f"{task.key}.inputs.{name}"] = None


def _given(inputs: Mapping[str, Json], names: Iterable[str]) -> list[str]:
    return [name for name in names if inputs.get(name) not in (None, "", [], {})]


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


def _program_of(value: Json) -> str | None:
    """Return the program of a command: its first word."""
    if isinstance(value, list):
        return _text_of(cast("list[Json]", value)[0])
    try:
        words = shlex.split(value) if isinstance(value, str) else []
    except ValueError:
        return None
    return words[0] if words else None
