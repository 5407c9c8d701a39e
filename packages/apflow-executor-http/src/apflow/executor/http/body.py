"""Reading the body of an answer: unpacked in bounds, and no further than it is kept."""

from __future__ import annotations

import base64
import codecs
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from apflow.core.payload.exact_json import loads_exactly
from apflow.core.payload.json_value import MAX_DEPTH, is_deeper
from apflow.core.process.captured_output import CUT

CHUNK = 1 << 16  # bytes that are unpacked at once
GZIP = 0x1F  # how a member of a gzip file begins
MAX_ENCODINGS = 3  # one inside the other
# Charsets of text. Python has more codecs; some take unbounded time, or do not return a string.
_CHARSETS = re.compile(
    r"(ascii|utf-(8|16|32)(-[bl]e|-sig)?|iso(8859|2022).*|cp\d+|koi8.*|mac.*|shift.*|euc.*|gb.*|big5.*|hz|johab|"
    r"tis-620|kz1048|ptcp154)"
)


class EncodingError(ValueError):
    """The body has an encoding that was not requested, or is incomplete."""


class Body:
    """The beginning of a body, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.content = bytearray()
        self.is_cut = False

    async def read(self, response: httpx.Response) -> None:
        """Take the body of an answer; stop where there is no more room.

        Raises:
            EncodingError: its Content-Encoding was not requested, or it ends early.
            zlib.error: it is not what its Content-Encoding says.
        """
        encodings = _encodings(response)
        if len(encodings) > MAX_ENCODINGS:
            raise EncodingError(f"it is packed {len(encodings)} times")
        unpackers = [_unpacker(name) for name in reversed(encodings)]
        async for piece in _raw(response):
            for part in _unpacked(piece, unpackers):
                room = self._limit - len(self.content)
                self.content += part[:room]
                if len(part) > room:
                    self.is_cut = True
                    return
        if any(each.is_unfinished for each in unpackers):
            raise EncodingError("what is packed in it ends early")

    def text(self, charset: str | None) -> str | dict[str, str]:
        """Return it as a string, marked where it was cut; as `{"base64": ...}` if it is binary."""
        try:
            # A character that the limit splits is dropped.
            text = _codec(charset).decode(self.content, final=not self.is_cut)
        except UnicodeError:
            return {"base64": base64.b64encode(self.content).decode()}
        return f"{text}\n{CUT}more than {self._limit} bytes]" if self.is_cut else text

    def json(self) -> Any:
        """Return the parsed JSON; None if the body is not JSON, or was cut."""
        if self.is_cut or not self.content:
            return None
        try:
            value = loads_exactly(bytes(self.content))
        except ValueError:
            return None
        return None if is_deeper(value, MAX_DEPTH - 1) else value


def _codec(charset: str | None) -> codecs.IncrementalDecoder:
    """Return the codec of a charset; UTF-8 unless the server names a charset of text."""
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):  # ValueError: a null character
        name = ""
    return codecs.getincrementaldecoder(name if _CHARSETS.fullmatch(name) else "utf-8")()


async def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    assert isinstance(response.stream, httpx.AsyncByteStream)  # an asynchronous transport gave it
    async for piece in response.stream:
        yield piece


def _encodings(response: httpx.Response) -> list[str]:
    named = response.headers.get("content-encoding", "")
    return [
        name for name in (each.strip().lower() for each in named.split(",")) if name not in ("", "identity")
    ]


class _Unpacker:
    """Unpacks piece by piece, each in bounds."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._packed = zlib.decompressobj(window)
        self.is_unfinished = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        has_more = False
        while data or has_more:
            if self._packed.eof:
                if self._window <= zlib.MAX_WBITS or data[0] != GZIP:
                    return  # what is behind the end means nothing
                # Another member, of which there may be several (RFC 1952, section 2.2).
                self._packed = zlib.decompressobj(self._window)
            part = self._packed.decompress(data, CHUNK)
            yield part
            has_more = len(part) == CHUNK and not self._packed.eof
            data = self._packed.unused_data if self._packed.eof else self._packed.unconsumed_tail
        self.is_unfinished = not self._packed.eof


class _Inflater(_Unpacker):
    """Unpacks `deflate`: with the header of zlib (RFC 9110, section 8.4.1.2), or without, as some send it."""

    def __init__(self) -> None:
        super().__init__(zlib.MAX_WBITS)
        self._has_begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if data and not self._has_begun:
            self._has_begun = True
            if data[0] & 0x0F != zlib.DEFLATED:
                self._packed = zlib.decompressobj(-zlib.MAX_WBITS)
        yield from super().decode(data)


def _unpacker(name: str) -> _Unpacker:
    match name:
        case "gzip" | "x-gzip":
            return _Unpacker(16 + zlib.MAX_WBITS)
        case "deflate":
            return _Inflater()
        case _:
            raise EncodingError(f"its Content-Encoding is {name!r}, which this executor cannot unpack")


def _unpacked(data: bytes, unpackers: list[_Unpacker]) -> Iterator[bytes]:
    if not unpackers:
        yield data
        return
    for part in unpackers[0].decode(data):
        yield from _unpacked(part, unpackers[1:])
