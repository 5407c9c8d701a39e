"""The kinds of plugins that a new distribution can hold: their entry points, ids and requirements.

This module imports nothing of the core, because `apflow new --help` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_CONTRACT: Final = (
    "The tests inherit the contract that the {kinds} of apflow pass. A failure names the broken rule, "
    "and how to follow it."
)
_TESTS: Final = "The tests use the installed package as apflow does."


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of plugin."""

    name: str  # the subcommand of `apflow new`, and the folder of the templates
    about: str  # what it is, for the help
    summary: str  # the default description of a new distribution
    group: str  # of the entry point
    target: str  # the object in the module; may hold `$class_name`
    suffix: str = ""  # of the name of the class
    id_noun: str = "id"
    # What an id must match, completely, and that rule for people.
    id_pattern: str = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
    id_rule: str = "letters, digits, underscores, dots and hyphens"
    is_hyphenated: bool = False  # whether the default id is the name of the distribution, and not its module
    reserved: tuple[str, ...] = ()  # ids of apflow, also where the package that has them is not installed
    requires: tuple[str, ...] = ("apflow-core",)  # of apflow; in this version and those compatible with it
    libraries: tuple[str, ...] = ()
    test_libraries: tuple[str, ...] = ()
    usage: str = ""  # Markdown; may hold the placeholders of templates
    contract: str = _TESTS


KINDS: Final = (
    Kind(
        name="executor",
        about="An executor: code that does the work of tasks.",
        summary="Returns a string",
        group="apflow.executors",
        target="$class_name",
        suffix="Executor",
        usage=(
            "The executor `$id` is available as soon as the package is installed:\n\n"
            "```sh\n"
            'apflow run flow $id --inputs \'{"text": "hello"}\'\n'
            "```"
        ),
        contract=_CONTRACT.format(kinds="executors"),
    ),
    Kind(
        name="store",
        about="A store: where tasks are kept.",
        summary="Keeps tasks in a file",
        group="apflow.storages",
        target="create_store",
        suffix="Store",
        id_noun="URL scheme",
        id_pattern=r"[a-z][a-z0-9.-]*",  # RFC 3986, section 3.1; apflow takes what follows "+" for a driver
        id_rule="lower-case letters, digits, dots and hyphens, a letter first",
        is_hyphenated=True,
        reserved=("memory", "duckdb", "postgres", "postgresql"),
        usage="Set `APFLOW_DATABASE_URL` to `$id:///path/of/the/file`.",
        contract=_CONTRACT.format(kinds="stores"),
    ),
    Kind(
        name="hook",
        about="A hook: a function that is called before or after each task, or at events of trees.",
        summary="Logs how each task ends",
        group="apflow.hooks",
        target="log_end",
        usage="apflow calls the hook if `APFLOW_HOOKS` names `$id`.",
    ),
    Kind(
        name="tool",
        about="A tool: a piece of work that executors call.",
        summary="Returns a string",
        group="apflow.tools",
        target="$class_name",
        suffix="Tool",
        usage='`get_tool("$id")` of `apflow.core.extensions.tools` returns the tool.',
    ),
    Kind(
        name="runner",
        about="A runner: calls executors, here or elsewhere.",
        summary="Logs how long each call of an executor takes",
        group="apflow.runners",
        target="$class_name",
        suffix="Runner",
        reserved=("local",),
        usage="Set `APFLOW_RUNNER` to `$id`.",
        contract=_CONTRACT.format(kinds="runners"),
    ),
    Kind(
        name="secrets",
        about="A provider of secrets.",
        summary="Reads secrets from files",
        group="apflow.secrets",
        target="find_secret",
        usage=(
            'A task that names a secret, `{"$$secret": "api_token"}`, gets the content of the file\n'
            "`api_token` in `/run/secrets`, or in the directory that `${variable}_DIRECTORY` names.\n"
            "`APFLOW_SECRET_API_TOKEN` takes precedence."
        ),
    ),
    Kind(
        name="command",
        about="A command of this program.",
        summary="Greets a person",
        group="apflow.commands",
        target="command",
        id_noun="command",
        id_pattern=r"[a-z][a-z0-9-]*",
        id_rule="lower-case letters, digits and hyphens, a letter first",
        is_hyphenated=True,
        reserved=("serve", "new"),
        requires=("apflow-cli", "apflow-core"),
        libraries=("click>=8.1.8",),
        usage="```sh\napflow $id Ada\n```",
    ),
    Kind(
        name="router",
        about="Routes of the server.",
        summary="Counts tasks over HTTP",
        group="apflow.server",
        target="make_router",
        id_noun="path",
        id_pattern=r"[a-z0-9][a-z0-9_-]*",
        id_rule="lower-case letters, digits, hyphens and underscores",
        is_hyphenated=True,
        requires=("apflow-core", "apflow-server"),
        libraries=("fastapi>=0.116",),
        test_libraries=("httpx>=0.28",),
        usage="The server has the route `/$id/count` as soon as the package is installed. Restart it.",
    ),
)
