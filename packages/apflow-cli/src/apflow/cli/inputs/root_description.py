"""The options that give the root of a tree a label and tags, in commands that create trees."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.cli.inputs.parameter import Decorator, combined, parameter_option
from apflow.core.model.task import Json


def with_description_options(operation: str) -> Decorator:
    """Add `--label` and `--tag` to a command that creates trees by an operation."""
    options = (
        parameter_option(operation, "label", "--label", metavar="TEXT"),
        parameter_option(
            operation, "tags", "--tag", metavar="TAG", multiple=True, default=None, more="Repeatable."
        ),
    )
    return combined(options)


def described(trees: Sequence[Json], label: str | None, tags: Sequence[str]) -> list[Json]:
    """Return the trees, each with the label and the tags on its root."""
    from apflow.core.authoring.root_description import with_description

    return [with_description(each, label, tags) for each in trees]
