"""Commands of another distribution."""

import sys

import click

sys.stderr.write("greeting_plugin is imported\n")


@click.command()
def greet() -> None:
    """Print a greeting: one line."""
    click.echo("hello")


@click.command()
def quiet() -> None:
    """Do nothing."""
