"""What shells complete in place of an argument: ids of tasks, executors, settings, files, servers.

The functions are the `shell_complete` of parameters. They print nothing and raise nothing: a shell calls them
while a line is being typed. Only what one of them needs is imported, because people wait for the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Items = list["CompletionItem"]
Completer = Callable[[click.Context, click.Parameter, str], Items]

MAX_HELP_LENGTH: Final = 60  # characters
# Candidates that every shell inserts as one word, whatever it does with them.
_SAFE: Final = re.compile(r"[\w@%+=:,./-]+")


def _quiet(complete: Completer) -> Completer:
    """Return a completer that has no candidates where it fails."""

    @wraps(complete)
    def completed(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        try:
            return complete(ctx, parameter, incomplete)
        except Exception:  # noqa: BLE001 - the border: an error would be printed into the line that is typed
            return []

    return completed


def _item(value: str, about: str | None = None) -> CompletionItem:
    from click.shell_completion import CompletionItem

    from apflow.core.process.printable import printable

    return CompletionItem(value, help=printable(about)[:MAX_HELP_LENGTH] if about else None)


@_quiet
def complete_task(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the ID of a stored task: the newest trees, or all tasks if no tree fits."""
    from apflow.cli.inputs.completion_tasks import find_tasks

    found = find_tasks(getattr(ctx.obj, "server", ""), incomplete)
    return [_item(id_, f"{name} ({status})") for id_, name, status in found if _SAFE.fullmatch(id_)]


@_quiet
def complete_executor(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the ID of an installed executor."""
    from apflow.core import plugins

    return [_item(each) for each in plugins.names("apflow.executors") if each.startswith(incomplete)]


@_quiet
def complete_file(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Leave it to the shell to complete the name of a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


@_quiet
def complete_run(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete an executor or, if none fits, the name of a file."""
    return complete_executor(ctx, parameter, incomplete) or complete_file(ctx, parameter, incomplete)


@_quiet
def complete_setting(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the name of a setting as in a file, or as in the environment if it begins so."""
    from apflow.cli.inputs._generated_settings import DESCRIPTIONS

    is_variable = incomplete.startswith("A")
    names = {f"APFLOW_{name.upper()}" if is_variable else name: name for name in DESCRIPTIONS}
    return [_item(each, DESCRIPTIONS[name]) for each, name in names.items() if each.startswith(incomplete)]


@_quiet
def complete_server(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the URL of a server that `apflow login` has stored a token for."""
    from apflow.cli.inputs.stored_tokens import stored_tokens

    return [_item(each) for each in sorted(stored_tokens()) if each.startswith(incomplete)]
