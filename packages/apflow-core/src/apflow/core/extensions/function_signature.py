"""The parameters of a function as the inputs of a task: the schema, and values in both directions.

Each parameter is a property of the inputs, with the type, constraints, default and description that the
function declares. `*values` is a list, `**options` an object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin, get_type_hints

from apflow.core.errors import InvalidInputError, ValidationError
from apflow.core.extensions.docstring import Docstring, read_docstring
from apflow.core.model.task import Json
from apflow.core.payload.schema import EXPLICIT_ONLY

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter

_ALWAYS_JSON: Final = (str, int, float, bool, type(None))


class FunctionSignature:
    """What a function takes and returns. Type hints are resolved, and pydantic is loaded, when needed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__qualname__", repr(function))
        self.parameters = inspect.signature(function)
        self._field_names = {name: f"p{at}" for at, name in enumerate(self.parameters.parameters)}

    @cached_property
    def docstring(self) -> Docstring:
        """The summary, and the descriptions of the parameters."""
        return read_docstring(inspect.getdoc(self.function) or "")

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The type hint of each parameter and of `return`.

        Raises:
            InvalidInputError: a hint names something that does not exist.
        """
        try:
            return get_type_hints(self.function, include_extras=True)
        except Exception as error:
            raise InvalidInputError(
                f"The type hints of {self.name} cannot be resolved: {error}. "
                "Import or define the types at the top level of the module, outside `if TYPE_CHECKING:`."
            ) from error

    @cached_property
    def model(self) -> type[BaseModel]:
        """A pydantic model whose properties are the parameters.

        Raises:
            InvalidInputError: a parameter has a type that JSON cannot express.
        """
        from pydantic import ConfigDict, Field, create_model

        parameters = self.parameters.parameters
        described = self.docstring.parameters
        fields: dict[str, Any] = {}
        for name, parameter in parameters.items():
            hint, metadata = _split(self._hint(parameter))
            names = Field(alias=name, validation_alias=name, serialization_alias=name)
            # What the function itself declares in `Annotated` comes after the docstring, and wins.
            about = [Field(description=described[name])] if name in described else []
            full: Any = Annotated[hint, *about, *metadata, names]
            fields[self._field_names[name]] = (full, _default(parameter))
        config = ConfigDict(extra="forbid", json_schema_extra={EXPLICIT_ONLY: True})
        try:
            model: type[BaseModel] = create_model(self.name.rpartition(".")[2], __config__=config, **fields)
            model.model_json_schema()
        except Exception as error:
            raise InvalidInputError(
                f"The parameters of {self.name} cannot be the inputs of a task: {_first_line(error)}. "
                "Use types that pydantic reads from JSON: str, int, float, bool, list, dict, datetime, Path, "
                "dataclasses, pydantic models."
            ) from error
        model.__doc__ = self.docstring.summary or None
        return model

    def bind(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by parameter, without defaults.

        Raises:
            TypeError: the function does not take these arguments.
        """
        try:
            return self.parameters.bind(*arguments, **keywords).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}() cannot be called so: {error}.") from error

    def to_json(self, name: str, value: Any) -> Json:
        """Return an argument as JSON, checked against the type of its parameter.

        Raises:
            ValidationError: it is not of this type.
        """
        from pydantic import ValidationError as PydanticError
        from pydantic_core import PydanticSerializationError

        adapter = self._adapters.get(name) or self._adapter(name)
        try:
            return adapter.dump_python(adapter.validate_python(value), mode="json", by_alias=True)
        except PydanticError as error:
            faults = [_fault(name, each["loc"], each["msg"]) for each in error.errors(include_url=False)]
        except (PydanticSerializationError, ValueError) as error:
            faults = [f"{name}: {error}"]
        raise ValidationError(f"{self.name}() is called with wrong arguments: {'; '.join(faults)}", faults)

    def arguments_of(self, inputs: Mapping[str, Json]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the call that the inputs describe.

        Raises:
            ValidationError: the inputs break the schema.
        """
        from pydantic import ValidationError as PydanticError

        try:
            read = self.model.model_validate(inputs)
        except PydanticError as error:
            faults = [_fault("inputs", each["loc"], each["msg"]) for each in error.errors(include_url=False)]
            raise ValidationError(f"The inputs break the schema: {'; '.join(faults)}", faults) from error
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for name, parameter in self.parameters.parameters.items():
            value = getattr(read, self._field_names[name])
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                keywords.update(value)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                keywords[name] = value
            else:
                positional.append(value)
        return positional, keywords

    def result_of(self, value: Json) -> Any:
        """Return a stored result as the type that the function returns; unchanged without a hint.

        Raises:
            ValidationError: it is not of this type.
        """
        from pydantic import TypeAdapter
        from pydantic import ValidationError as PydanticError

        hint = self.hints.get("return", Any)
        if hint is Any:
            return value
        try:
            return TypeAdapter(hint).validate_python(value)
        except PydanticError as error:
            faults = [_fault("result", each["loc"], each["msg"]) for each in error.errors(include_url=False)]
            raise ValidationError(
                f"The result of {self.name} is not what it declares: {'; '.join(faults)}", faults
            ) from error

    @cached_property
    def _adapters(self) -> dict[str, TypeAdapter[Any]]:
        return {}

    def _adapter(self, name: str) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter

        _ = self.model  # says which types cannot be used
        adapter = self._adapters[name] = TypeAdapter(self._hint(self.parameters.parameters[name]))
        return adapter

    def _hint(self, parameter: inspect.Parameter) -> Any:
        hint: Any = self.hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_POSITIONAL:
            return list.__class_getitem__(hint)
        if parameter.kind is parameter.VAR_KEYWORD:
            return dict.__class_getitem__((str, hint))
        return hint


def jsonable(value: Any) -> Any:
    """Return a result as plain JSON: dataclasses, pydantic models, dates, sets and paths are converted.

    What cannot be converted is returned unchanged, for the engine to report.
    """
    if type(value) in _ALWAYS_JSON:
        return value
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return to_jsonable_python(value, by_alias=True)
    except (PydanticSerializationError, ValueError):
        return value


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a hint without `Annotated`, and what that adds to it."""
    if get_origin(hint) is Annotated:
        base, *metadata = get_args(hint)
        return base, tuple(metadata)
    return hint, ()


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return []
    if parameter.kind is parameter.VAR_KEYWORD:
        return {}
    return ... if parameter.default is parameter.empty else parameter.default


def _fault(start: str, path: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join([start, *map(str, path)])}: {message}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
