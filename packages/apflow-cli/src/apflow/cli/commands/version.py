"""`apflow version`: what is installed."""

from __future__ import annotations

import click

from apflow.cli.inputs.options import session_of, with_output
from apflow.cli.release import VERSION

GROUPS = ("executors", "storages", "runners", "hooks", "tools", "secrets", "commands", "server")


@click.command()
@with_output
@click.pass_context
def version(ctx: click.Context) -> None:
    """Show the versions of everything installed."""
    import platform

    from apflow.cli.display.output import write_fields, write_json

    found = {"apflow": VERSION, "python": platform.python_version(), "platform": platform.platform()}
    if session_of(ctx).is_json:
        write_json(found | {"distributions": distributions()})
    else:
        write_fields(found | distributions())


def distributions() -> dict[str, str]:
    """Return the version of apflow's core and of every distribution that brings plugins, by name."""
    from apflow.core import plugins

    found = {"apflow-core": plugins.version("apflow-core") or "?"}
    for group in GROUPS:
        found.update((each.distribution, each.version) for each in plugins.listing(f"apflow.{group}"))
    return dict(sorted(found.items()))
