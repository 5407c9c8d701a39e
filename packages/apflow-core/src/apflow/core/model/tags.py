"""Tags: short strings that tasks are found by."""

from __future__ import annotations

from apflow.core.bounds import MAX_TAG_LENGTH


def fault_of_tag(value: object) -> str | None:
    """Return why a value cannot be a tag; None if it can.

    Commas separate tags on a command line, and the SQL stores find a tag in the JSON text of the list. So
    commas and the characters that JSON escapes are refused.
    """
    if not isinstance(value, str) or not value:
        return "a tag is a string that is not empty"
    if len(value) > MAX_TAG_LENGTH:
        return f"it has {len(value)} characters; at most {MAX_TAG_LENGTH} are possible"
    if value != value.strip() or not value.isprintable() or any(each in value for each in ',"\\'):
        return "commas, double quotes, backslashes, control characters and spaces at the ends are refused"
    return None
