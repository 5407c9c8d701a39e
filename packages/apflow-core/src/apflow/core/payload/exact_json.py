"""Reading JSON text of other systems without changing a number in silence.

orjson reads an integer beyond 64 bits as a float. A search of the bytes decides whether the text may have
one; only then is it read by the slower `json`, which keeps every integer.
"""

from __future__ import annotations

import json
import re
from typing import Final

import orjson

from apflow.core.model.task import Json
from apflow.core.payload.json_value import GREATEST_INT, LEAST_INT, refuse_constant, refusing_other_text

_MAX_DIGITS: Final = 1000  # of an integer that is converted
# Of 18 digits in a row, every sixth byte of the text includes three: the sample is smaller than the text.
_STRIDE: Final = 6
_DIGITS_AS_0: Final = bytes(ord("0") if ord("0") <= byte <= ord("9") else byte for byte in range(256))
_NEEDLES: Final = (b"0" * 20, b"-" + b"0" * 19)  # an integer beyond 64 bits includes one of them
_RUN: Final = re.compile(rb"-?0+")
_BEFORE_NUMBER: Final = frozenset(b"[:,- \t\r\n")
_IN_FRACTION: Final = frozenset(b".eE")


def loads_exactly(text: str | bytes | bytearray) -> Json:
    """Read JSON text from outside without changing an integer.

    An integer beyond 64 bits stays an integer, where `loads` would return the nearest float, and a number
    beyond the range of a float is infinite. `storable` and `encode` refuse both with their path. Other
    decimals become the nearest float (RFC 8259, section 6). Raises `InvalidInputError` for what is not JSON.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not _has_large_integer(content):
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            pass
    with refusing_other_text():
        return json.loads(text, parse_constant=refuse_constant, parse_int=_read_integer)


def _has_large_integer(text: bytes | bytearray) -> bool:
    """Return whether JSON text may have an integer beyond 64 bits. Digits in a string may count as one."""
    if b"000" not in text[::_STRIDE].translate(_DIGITS_AS_0):
        return False
    digits = text.translate(_DIGITS_AS_0)
    return b"0" * 19 in digits and any(_has_large_after(text, digits, needle) for needle in _NEEDLES)


def _has_large_after(text: bytes | bytearray, digits: bytes | bytearray, needle: bytes) -> bool:
    start = digits.find(needle)
    while start >= 0:
        run = _RUN.match(digits, start)
        end = run.end() if run else start + len(needle)
        is_number = start == 0 or text[start - 1] in _BEFORE_NUMBER
        is_integer = is_number and (end == len(text) or text[end] not in _IN_FRACTION)
        if is_integer and (end - start > 20 or not LEAST_INT <= int(text[start:end]) <= GREATEST_INT):
            return True
        start = digits.find(needle, end)
    return False


def _read_integer(text: str) -> int:
    # Python refuses to convert thousands of digits: any integer beyond 64 bits is refused later in its place.
    return int(text) if len(text) <= _MAX_DIGITS else GREATEST_INT + 1
