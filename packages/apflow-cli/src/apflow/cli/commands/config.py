"""`apflow config`: what is set, by whom, and how to change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.completion import complete_setting
from apflow.cli.inputs.options import Seconds, session_of, with_output

if TYPE_CHECKING:
    from apflow.core.settings import Setting

DAY = 86_400  # seconds
MAX_TOKEN_SECONDS = 100 * 365 * DAY


@click.group()
def config() -> None:
    """Show and change settings, and create tokens for a server."""


@config.command("list")
@with_output
@click.pass_context
def list_settings(ctx: click.Context) -> None:
    """Show every setting: its value, where that came from, and what it means."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.session.settings_file import as_text, shown
    from apflow.core.settings import explain_settings

    found = [(each, shown(each)) for each in explain_settings()]
    if session_of(ctx).is_json:
        write_json({"settings": [_described(each, value) for each, value in found]})
    else:
        rows = [(each.variable, as_text(value), each.source, _meaning(each)) for each, value in found]
        write_table(("setting", "value", "source", "meaning"), rows)


@config.command("get")
@click.argument("name", shell_complete=complete_setting)
@with_output
@click.pass_context
def get_setting(ctx: click.Context, name: str) -> None:
    """Show one setting: NAME as in the environment (APFLOW_BIND) or in a file (bind)."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.settings_file import as_text, shown
    from apflow.core.settings import find_setting

    found = find_setting(name)
    if session_of(ctx).is_json:
        write_json({"setting": _described(found, shown(found))})
    else:
        write_line(as_text(shown(found)))


@config.command("set")
@click.argument("name", shell_complete=complete_setting)
@click.argument("value")
@click.option("--project", is_flag=True, help="Use the current directory, not your configuration directory.")
@with_output
@click.pass_context
def set_setting(ctx: click.Context, /, name: str, value: str, project: bool) -> None:
    """Write a setting into apflow.toml. VALUE is written as in the environment; lists by comma."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.settings_file import as_text, shown, write_setting
    from apflow.core.settings import file_of_settings, find_setting, setting_name

    path = file_of_settings(of_project=project)
    write_setting(path, setting_name(name), value)
    found = find_setting(name)
    if session_of(ctx).is_json:
        write_json({"setting": _described(found, shown(found)), "file": str(path)})
    elif found.source == str(path):
        write_line(f"{found.name} is {as_text(shown(found))!r} by {path}.")
    else:
        write_line(f"{path} is written, but {found.source} overrides it: {found.name} is unchanged.")


@config.command("unset")
@click.argument("name", shell_complete=complete_setting)
@click.option("--project", is_flag=True, help="Use the current directory, not your configuration directory.")
@with_output
@click.pass_context
def unset_setting(ctx: click.Context, /, name: str, project: bool) -> None:
    """Remove a setting from apflow.toml, so that the next source or the default applies."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.settings_file import as_text, remove_setting, shown
    from apflow.core.settings import file_of_settings, find_setting, setting_name

    path = file_of_settings(of_project=project)
    is_removed = remove_setting(path, setting_name(name))
    found = find_setting(name)
    if session_of(ctx).is_json:
        write_json({"setting": _described(found, shown(found)), "file": str(path), "is_removed": is_removed})
        return
    what = f"{found.name} is removed from {path}" if is_removed else f"{path} does not set {found.name}"
    write_line(f"{what}. Its value is {as_text(shown(found))!r}, from: {found.source}.")


@config.command("gen-token")
@click.option("--user-id", metavar="ID", required=True, help="The user that the token identifies: its `sub`.")
@click.option("--admin", "is_admin", is_flag=True, help="Create a token for an administrator.")
@click.option(
    "--expires-in",
    type=Seconds(min=1, max=MAX_TOKEN_SECONDS),
    default=DAY,
    show_default=True,
    metavar="SECONDS",
    help="Lifetime of the token.",
)
@with_output
@click.pass_context
def gen_token(ctx: click.Context, user_id: str, is_admin: bool, expires_in: float) -> None:
    """Make a bearer token for a server that has the same APFLOW_JWT_SECRET."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.inputs.tokens import make_token
    from apflow.core.settings import get_settings

    made = make_token(get_settings(), user_id, is_admin=is_admin, seconds=expires_in)
    if session_of(ctx).is_json:
        write_json(made)
    else:
        write_line(made["token"])


@config.group("secrets")
def secrets() -> None:
    """Show which secrets there are, and who may use them."""


@secrets.command("list")
@with_output
@click.pass_context
def list_secrets(ctx: click.Context) -> None:
    """Show each secret with the users, roles, executors and hosts that it is granted to; never its value."""
    from apflow.cli.display.output import write_json, write_table
    from apflow.cli.display.secret_list import COLUMNS, describe_secrets, rows_of

    found = describe_secrets()
    if session_of(ctx).is_json:
        write_json({"secrets": found})
    else:
        write_table(COLUMNS, [row for each in found for row in rows_of(each)])


def _described(setting: Setting, value: object) -> dict[str, object]:
    return {
        "name": setting.name,
        "variable": setting.variable,
        "value": value,
        "source": setting.source,
        "description": _meaning(setting),
    }


def _meaning(setting: Setting) -> str:
    from apflow.cli.inputs._generated_settings import DESCRIPTIONS

    return DESCRIPTIONS[setting.name]
