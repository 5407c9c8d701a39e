"""Secrets: references resolved at the last moment, and clear values kept from getting out.

`{"$secret": "NAME"}` is resolved when a task starts and never stored. What a dependency returned is data,
whatever it looks like: `quoted` marks it, so that a hostile result cannot ask for a secret.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Final, cast
from urllib.parse import quote, quote_plus

from apflow.core import plugins
from apflow.core.concurrency.containment import call_contained
from apflow.core.errors import SecretNotFoundError, SecretUnusableError, ValidationError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import CONTAINERS, Place, dumps, loads, rewrite
from apflow.core.permissions.secret_policy import PREFIX, identity, is_variable
from apflow.core.process.captured_output import CUT, MISSING

# A provider of the group "apflow.secrets": called with a name, returns the value or None.
SecretProvider = Callable[[str], str | None]

STARS: Final = "***"
GROUP: Final = "apflow.secrets"
_KEY: Final = "$secret"
_MIN_LENGTH: Final = 8  # a shorter value would turn ordinary text into stars
_LARGE: Final = 1 << 16  # from here on a walk through the value would hold up the event loop


class Quoted(dict[str, Json]):
    """An object that looks like a reference to a secret and is data: never resolved."""


def quoted(value: Json) -> Json:
    """Return a copy of plain JSON in which nothing refers to a secret."""
    if type(value) not in CONTAINERS:
        return value
    text = dumps(value)
    copy = loads(text)
    if b'"$secret"' not in text:
        return copy
    return rewrite(copy, lambda node, _: Quoted(node) if _is_secret(node) else node)


def resolve(value: Json, permit: Callable[[str], object] | None = None) -> tuple[Json, list[str]]:
    """Return `value` with its secrets in clear, and the clear values for `redact`.

    `value` itself is not changed.

    Args:
        permit: called with the name of each secret before it is looked up; raises where it may not be used.

    Raises:
        SecretNotFoundError: no provider knows a name.
        ValidationError: a name is not a string.
    """
    if not _may_hold_secret(value):
        return value, []
    clear: dict[str, str] = {}

    def change(node: Json, place: Place | None) -> Json:
        if type(node) is Quoted:
            return dict(node)
        if not _is_secret(node):
            return node
        name = node[_KEY]
        if not isinstance(name, str) or not name:
            where = place.path("") if place else "value"
            raise ValidationError(f"{where}.$secret must be the name of a secret.", [f"{where}: no name"])
        if name not in clear:
            if permit is not None:
                permit(name)
            clear[name] = find_secret(name)
        return clear[name]

    return rewrite(value, change), list(dict.fromkeys(clear.values()))


def named_secrets(value: Json) -> list[str]:
    """Return the names of the secrets that `value` refers to, each once."""
    names: dict[str, None] = {}

    def look(node: Json, _: Place | None) -> Json:
        if type(node) is not Quoted and _is_secret(node) and isinstance(node[_KEY], str):
            names[node[_KEY]] = None
        return node

    if _may_hold_secret(value):
        rewrite(value, look)
    return list(names)


def find_secret(name: str) -> str:
    """Return the value of a secret: from the environment, else from the first plugin that knows it."""
    variable = identity(name)
    if is_variable(variable):
        return os.environ[PREFIX + variable]
    for provider_name in plugins.names(GROUP):
        provider = cast("Callable[[str], object]", plugins.load(GROUP, provider_name))
        value = call_contained(partial(provider, name))
        if isinstance(value, str):
            return value
        if value is not None:
            raise SecretUnusableError(name, provider_name, type(value).__name__)
    raise SecretNotFoundError(name)


def redact(value: Json, secrets: Sequence[str]) -> Json:
    """Return `value` with each secret of 8 characters or more as `***`, inside longer strings too.

    Forms that programs commonly make of a secret count as the secret: without the white space around it, each
    of its lines, escaped for JSON, HTML, Python or a shell, encoded for URLs, in hexadecimal, and in base64,
    also of a longer text that holds it (such as the `user:password` of basic authentication). So does a part
    of 4 characters or more that a limit of output has left, where the output is marked as cut.
    """
    known = tuple(each for each in secrets if len(each) >= _MIN_LENGTH)
    if not known:
        return value
    finder, in_json = _finders(known)
    if type(value) in CONTAINERS:
        text = _as_text(value)
        if text is not None and not in_json.finds(text):
            return value
        if text is not None and len(text) >= _LARGE:
            try:
                return loads(in_json.masked(text))
            except ValueError:
                pass  # a match that was not all inside one string: it has left no JSON

    def change(node: Json, _: Place | None) -> Json:
        if isinstance(node, str):
            return finder.masked(node)
        if isinstance(node, (int, float)) and not isinstance(node, bool) and finder.is_form(str(node)):
            return STARS
        return node

    return rewrite(value, change, lambda name, _: finder.masked(str(name)))


def _as_text(value: Json) -> str | None:
    try:
        return dumps(value).decode()
    except ValueError:
        return None  # an executor's event may hold anything


@lru_cache(maxsize=128)
def _finders(secrets: tuple[str, ...]) -> tuple[_Finder, _Finder]:
    """Return a finder of the secrets in a string, and one for the JSON text of a value."""
    found = {form for secret in secrets for form in _forms(secret) if len(form) >= _MIN_LENGTH}
    forms = sorted(found, key=len, reverse=True)  # the longer of two goes first
    escaped = [dumps(form).decode()[1:-1] for form in forms]
    finder = _Finder(forms)
    return finder, finder if escaped == forms else _Finder(escaped)


class _Finder:
    """Finds forms of secrets in a string. Long ones are searched separately: a pattern compiles slowly."""

    __slots__ = ("_forms", "_long", "_pattern")

    def __init__(self, forms: Sequence[str]) -> None:
        self._forms = forms
        long = (each for form in forms if len(form) > _LONG_FORM for each in _in_both_cases(form))
        self._long = list(dict.fromkeys(long))
        self._pattern = _any_of([form for form in forms if len(form) <= _LONG_FORM])

    def finds(self, text: str) -> bool:
        """Return whether a string contains a form."""
        return (
            any(form in text for form in self._long)
            or self._pattern.search(text) is not None
            or MISSING in text
            or any(mark in text for mark in _CUTS)
        )

    def masked(self, text: str) -> str:
        """Return a string with `***` in place of each form."""
        for form in self._long:
            text = text.replace(form, STARS)
        text = self._pattern.sub(STARS, text)
        return self._without_parts(text)

    def _without_parts(self, text: str) -> str:
        """Return a string with `***` in place of each part of a form next to a truncation mark."""
        for mark in _CUTS:
            if mark in text:
                *before, last = text.split(mark)
                text = mark.join([*(self._without_beginning(each) for each in before), last])
        if MISSING in text:
            first, *after = text.split(MISSING)
            text = MISSING.join([first, *(self._without_end(each) for each in after)])
        return text

    def _without_beginning(self, text: str) -> str:
        size = max((_common(form, text) for form in self._forms), default=0)
        return text[: len(text) - size] + STARS if size else text

    def _without_end(self, text: str) -> str:
        size = max((_common(form[::-1], text[: len(form)][::-1]) for form in self._forms), default=0)
        return STARS + text[size:] if size else text

    def is_form(self, text: str) -> bool:
        """Return whether a string is a form."""
        return self._pattern.fullmatch(text) is not None


_LONG_FORM: Final = 200  # characters
_MIN_PART_LENGTH: Final = 4  # characters of a secret next to a cut
_CUTS: Final = (f"\n{CUT}", f"\\n{CUT}")  # in JSON text, the newline is escaped


def _common(form: str, text: str) -> int:
    """Return the length of the longest proper prefix of `form` that `text` ends with; 0 if it is short."""
    for size in range(min(len(form) - 1, len(text)), _MIN_PART_LENGTH - 1, -1):
        if text.endswith(form[:size]):
            return size
    return 0


def _any_of(forms: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern for many forms, grouped by their first character."""
    groups: dict[str, list[str]] = {}
    for form in forms:
        groups.setdefault(form[0], []).append(form)
    sources: list[str] = []
    for first, group in groups.items():
        rest = [_source(form)[len(re.escape(first)) :] for form in group if not form.startswith(_HEX_STARTS)]
        sources += [_source(form) for form in group if form.startswith(_HEX_STARTS)]
        sources += [f"{re.escape(first)}(?:{'|'.join(rest)})"] if rest else []
    return re.compile("|".join(sources) or r"(?!)")


_HEX_STARTS: Final = ("%", "\\")


def _source(form: str) -> str:
    """Return a regular expression for one form: hexadecimal digits of escapes match in either case."""
    return _HEX_DIGITS.sub(lambda digits: f"(?i:{digits[0]})", re.escape(form))


def _in_both_cases(form: str) -> Iterator[str]:
    yield form
    yield _HEX_DIGITS.sub(lambda digits: digits[0].lower(), form)
    yield _HEX_DIGITS.sub(lambda digits: digits[0].upper(), form)


_HEX_DIGITS = re.compile(r"%[0-9A-Fa-f]{2}|(?<=\\u)[0-9a-fA-F]{4}")


def _forms(secret: str) -> Iterator[str]:
    """Yield each form in which programs commonly show a secret."""
    for whole in dict.fromkeys((secret, secret.strip())):
        yield from _encoded(whole)
        yield from _wrapped_base64(whole.encode())
    words = secret.split()
    yield from _written(" ".join(words))  # as a shell prints it without quotes
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        for joint in ("", "\n", "\r\n"):
            yield from _written(joint.join(lines))
        secret_lines = [line for line in dict.fromkeys(lines) if not _PEM_BORDER.fullmatch(line)]
        for line in secret_lines:
            yield from _encoded(line) if len(secret_lines) <= _ENCODED_LINES else _written(line)


_PEM_BORDER = re.compile(
    r"-+ ?(BEGIN|END) [^-]*-+"
)  # contains nothing secret, and occurs in public files too
_ENCODED_LINES: Final = 10  # of a longer secret, lines are looked for as text only


def _encoded(secret: str) -> Iterator[str]:
    yield from _written(secret)
    raw = secret.encode()
    yield from _base64_forms(raw)
    yield raw.hex()
    yield raw.hex().upper()


def _written(secret: str) -> Iterator[str]:
    """Yield a secret as text, in the notations of the formats that carry text."""
    escaped = {json.dumps(secret, ensure_ascii=flag)[1:-1] for flag in (True, False)}
    yield secret
    yield from escaped
    yield from (each.replace("/", "\\/") for each in escaped)
    yield from (json.dumps(each)[1:-1] for each in escaped)  # JSON inside a string of JSON
    yield from (quote(secret, safe=""), quote(secret), quote_plus(secret), quote_plus(secret, safe="/"))
    yield from (html.escape(secret), html.escape(secret, quote=False))
    yield from (repr(secret)[1:-1], repr(secret.encode())[2:-1])
    yield shlex.quote(secret)[1:-1] if "'" in secret else secret


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Yield the middle that base64 of any text holding the secret must show, for each alignment."""
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + secret).decode()
        first = (0, 2, 3)[shift]  # characters that also depend on the preceding bytes
        last = len(text) - (0, 3, 2)[(shift + len(secret)) % 3]  # less those that depend on what follows
        for each in {text[first:last], text[first:].rstrip("=") if shift == 0 else text[first:last]}:
            yield each
            yield each.translate(_URL_SAFE)
            yield quote(each, safe="")


def _wrapped_base64(secret: bytes) -> Iterator[str]:
    """Yield the lines of base64 as programs break it: `base64` and MIME at 76 characters, PEM at 64."""
    text = base64.b64encode(secret).decode()
    for width in (76, 64):
        if len(text) > width:
            yield from (text[at : at + width] for at in range(0, len(text), width))


_URL_SAFE = str.maketrans("+/", "-_")

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SECRET_NAMES: Final = (
    ("password",), ("passphrase",), ("token",), ("api", "key"), ("apikey",), ("authorization",),
    ("private", "key"), ("privatekey",), ("secret",), ("cookie",),
)  # fmt: skip
# After the secret word, these make it the name of something else: token_usage, secret_name.
_HARMLESS: Final = frozenset(
    {"usage", "used", "count", "counts", "limit", "limits", "type", "url", "uri", "endpoint", "name", "id",
     "budget", "policy", "length", "expires", "expiry", "ttl", "path", "file", "cost"}
)  # fmt: skip


@lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Return whether a key names a secret: by whole words, in any of the usual spellings."""
    words = tuple(word.lower() for word in _WORDS.findall(key[:200]))
    for names in _SECRET_NAMES:
        size = len(names)
        for start in range(len(words) - size + 1):
            if words[start : start + size] == names and not _HARMLESS.intersection(words[start + size :][:1]):
                return True
    return False


def mask(value: Json) -> Json:
    """Return `value` for display: plain values under secret keys become `***`."""

    def change(node: Json, place: Place | None) -> Json:
        if _is_secret(node):
            return dict(node)  # names a secret and holds none
        return STARS if _is_clear_secret(node, place) else node

    return rewrite(value, change)


def refuse_masked(value: Json, path: str = "inputs") -> None:
    """Raise `ValidationError` where `***` would be written back under a secret key."""
    faults: list[str] = []

    def change(node: Json, place: Place | None) -> Json:
        if node == STARS and place and _is_clear_secret(node, place):
            faults.append(f"{place.path(path)}: *** is how a secret is shown, not its value")
        return node

    rewrite(value, change)
    if faults:
        raise ValidationError("Masked secrets cannot be written back: " + "; ".join(faults), faults)


def _is_clear_secret(node: Json, place: Place | None) -> bool:
    if place is None or not isinstance(place.key, str):
        return False
    is_api_key = place.key == "value" and place.parent is not None and place.parent.key == "auth"
    if not is_api_key and not is_secret_key(place.key):
        return False
    if node is None or isinstance(node, bool) or node in ("", [], {}):
        return False
    return not isinstance(node, dict) or ("$from" not in node and not _is_secret(cast(Json, node)))


def _is_secret(node: Json) -> bool:
    return isinstance(node, dict) and len(cast("dict[str, Json]", node)) == 1 and _KEY in node


def _may_hold_secret(value: Json) -> bool:
    if type(value) not in CONTAINERS or not value:
        return False
    if type(value) is dict and _KEY not in value:
        for child in cast("dict[str, Json]", value).values():
            if isinstance(child, (dict, list, tuple)):
                break
        else:
            return False
    try:
        return b'"$secret"' in dumps(value)
    except ValueError:
        return True
