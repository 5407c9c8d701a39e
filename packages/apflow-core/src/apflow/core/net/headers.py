"""Names and values of the headers that a task may give. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def is_token(text: str) -> bool:
    """Return whether text can be the name of a header (RFC 9110, section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def check_headers(
    headers: Mapping[str, str],
    refusal: Callable[[str, str], Exception],
    fault_of_name: Callable[[str], str | None],
) -> None:
    """Check headers. Errors repeat no value, and no invalid name: either may be a credential.

    Args:
        refusal: returns the error for an input, such as "headers.Host", and what is wrong with it.
        fault_of_name: returns why a name, in lower case, cannot be given; None if it can.

    Raises:
        Exception: the one that `refusal` returns.
    """
    for number, (name, value) in enumerate(headers.items(), 1):
        if not is_token(name):  # it may be a whole line with a credential
            raise refusal("headers", f"holds a name that no header can have, number {number}")
        fault = fault_of_name(name.lower())
        if fault is not None:
            raise refusal(f"headers.{name}", fault)
        if not _VALUE.fullmatch(value):
            raise refusal(f"headers.{name}", "holds a line break, or another character that no header has")
