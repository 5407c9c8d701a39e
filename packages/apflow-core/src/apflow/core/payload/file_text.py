"""Reading the text of a file from outside: JSON or, where it is not JSON, YAML. Needs the extra `yaml`."""

from __future__ import annotations

import json
from typing import Final

from apflow.core.errors import MalformedFileError, MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_text import read_json

YAML_NAMES: Final = (".yaml", ".yml")


def read_file_text(text: str, *, max_depth: int, suffix: str = "") -> Json:
    """Return the value of a string in JSON or, unless its suffix says JSON, in YAML.

    Args:
        max_depth: the most levels that the value may have.
        suffix: of the name of the file, in small letters, such as ".yaml"; "" if there is no suffix.

    Raises:
        MalformedFileError: the text is neither, or is refused.
    """
    try:
        return read_json(text, max_depth=max_depth)
    except MalformedTextError as error:
        # Only text that breaks the grammar of JSON may be YAML. What is refused for another reason stays so.
        if suffix == ".json" or not isinstance(error.__cause__, json.JSONDecodeError):
            raise MalformedFileError("JSON", error) from error
        as_json = error
    from apflow.core.payload.yaml_text import read_yaml  # here: PyYAML is slow to import, and JSON is common

    try:
        return read_yaml(text, max_depth=max_depth)
    except MalformedTextError as error:
        if suffix not in YAML_NAMES and text.lstrip().startswith(("[", "{")):
            raise MalformedFileError("JSON", as_json) from error
        raise MalformedFileError("YAML", error) from error
