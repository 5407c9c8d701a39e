"""A setting that is a policy as JSON, or the path of a file with one as JSON or TOML."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, Generic, TypeVar

from apflow.core.errors import SettingsError

MAX_FILE_BYTES: Final = 1 << 20

T = TypeVar("T")


class PolicySetting(Generic[T]):
    """Reads the policies that values of a setting name. A file is read again when it has changed.

    Args:
        variable: the name of the setting, for messages.
        title: what messages call the file, such as "The secret policy".
        form: what messages expect, as an example of the JSON.
        read: returns the policy of a document, which is any JSON; its second argument names the document.
    """

    def __init__(self, variable: str, title: str, form: str, read: Callable[[object, str], T]) -> None:
        self._variable, self._title, self._form, self._read = variable, title, form, read
        self._inline = lru_cache(maxsize=4)(self._read_inline)
        self._file = lru_cache(maxsize=4)(self._read_file)

    def policy(self, value: str) -> T:
        """Return the policy that a value of the setting names.

        Raises:
            SettingsError: it cannot be read.
        """
        if value.startswith("{"):
            return self._inline(value)
        path = Path(value).expanduser()
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{self._variable} names {value!r}, which cannot be read: {error}."
            ) from error
        return self._file(path, status.st_mtime_ns, status.st_size)

    def _read_inline(self, text: str) -> T:
        return self._read(self._parse(text, self._variable), self._variable)

    def _read_file(self, path: Path, modified: int, size: int) -> T:
        del modified
        where = f"{self._title} {path}"
        if size > MAX_FILE_BYTES:
            raise SettingsError(f"{where} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError(f"{where} cannot be read: {error}.") from error
        return self._read(self._parse(text, where), where)

    def _parse(self, text: str, where: str) -> object:
        import json
        import tomllib

        try:
            return json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"{where} is neither JSON nor TOML: {error}. Expected {self._form}."
            ) from error
