"""Errors as people and scripts see them: what, why, what to try; and the exit code."""

from __future__ import annotations

from apflow.cli.errors.advice import next_command
from apflow.cli.errors.exit_code import ExitCode
from apflow.core.errors import (
    ApflowError,
    ConflictError,
    ExecutorNotFoundError,
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    SecretNotFoundError,
    StoreError,
)

# The first that fits.
EXIT_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (InvalidInputError, ExitCode.INVALID),
    (SecretNotFoundError, ExitCode.INVALID),
    (NotFoundError, ExitCode.NOT_FOUND),
    (ExecutorNotFoundError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.REFUSED),
    (LimitExceededError, ExitCode.REFUSED),
    (ForbiddenError, ExitCode.REFUSED),
    (StoreError, ExitCode.STORE),
    (ConnectionError, ExitCode.STORE),  # the server that is to do the work
    (TimeoutError, ExitCode.TIMEOUT),
)


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit code for an error."""
    known = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), None)
    if known is not None:
        return known
    return ExitCode.STORE if is_of_server(error) else ExitCode.FAILED


def is_of_server(error: Exception) -> bool:
    """Return whether the error is that a server could not handle the request."""
    if not isinstance(error, ApflowError):
        return False
    from apflow.client import ServerError  # here: few errors come so far, and httpx takes its time

    return isinstance(error, ServerError)


def describe(error: Exception) -> str:
    """Return an error as text for people."""
    if isinstance(error, ApflowError | TimeoutError):
        listed = faults(error) if isinstance(error, InvalidInputError) else []
        advice = next_command(error)
        more = [f"Try: {_indented(advice)}"] if advice else []
        return "\n".join([f"Error: {_text(error)}", *(f"  - {_indented(each)}" for each in listed), *more])
    return (
        f"Error: unexpected {type(error).__name__}: {_text(error)}\n"
        "This is a fault in apflow or in a plugin. Run it again with --debug to see where."
    )


def _text(error: Exception) -> str:
    return _indented(str(error))


def _indented(text: str) -> str:
    """Return text whose further lines cannot pass for messages of the program."""
    return text.replace("\n", "\n  ")


def faults(error: InvalidInputError) -> list[str]:
    """Return the violations that the message of an error does not already name."""
    return [each for each in error.violations if each not in str(error)]
