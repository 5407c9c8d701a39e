"""`apflow completion`: the script that completes commands, options and values in a shell."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the script that completes `apflow` in a shell.

    It completes commands, options, and values: IDs of tasks, executors, settings and files.

    \b
    bash: add to ~/.bashrc:  eval "$(apflow completion bash)"
    zsh:  add to ~/.zshrc:   eval "$(apflow completion zsh)"
    fish: apflow completion fish > ~/.config/fish/completions/apflow.fish
    """  # noqa: D301 - click's mark for lines that stay as they are
    from click.shell_completion import get_completion_class

    from apflow.cli.display.output import write_line
    from apflow.cli.program import COMPLETION

    kind = get_completion_class(shell)
    assert kind is not None, shell  # click has these three
    write_line(kind(ctx.find_root().command, {}, "apflow", COMPLETION).source().rstrip())
