"""Schemas of inputs and results: what they declare, their defaults, and who breaks them.

A schema is a JSON Schema (a dict) or a pydantic class; both compile to an `InputSchema`. Compiling is
cached by content, so an executor may build its dict again for every call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

import orjson

from apflow.core.errors import InvalidInputError, ValidationError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import (
    CONTAINERS,
    copy_json,
    dumps,
    is_deeper,
    is_larger,
    path_of,
    storable,
)
from apflow.core.payload.schema_cost import weigh
from apflow.core.payload.schema_defaults import DefaultFiller, declared_parts

if TYPE_CHECKING:
    from jsonschema_rs import Validator
    from pydantic import BaseModel

Schema = dict[str, Json]

# A built value holds results inside inputs, each within MAX_DEPTH; beyond this the validator's stack ends.
_MAX_DEPTH: Final = 200
_MAX_VIOLATIONS: Final = 100
_MAX_MESSAGE_LENGTH: Final = 200
# A pattern that needs look-around or back-references may try this often, then it counts as not matching.
_BACKTRACK_LIMIT: Final = 10_000
_PATTERN_BYTES: Final = 8 << 20  # of one compiled pattern
# Evaluations of one validation, at some tens of nanoseconds: it holds the interpreter for that long.
_MAX_EVALUATIONS: Final = 4_000_000
_CHEAP: Final = 8  # evaluations of one value, with which no value of the size of inputs is too large
# Of what is larger, only the first violation is sought: each one holds a copy of the value.
_MANY_VALUES: Final = 20_000
# Bytes of the value, times keywords of the schema, times evaluations: each may be a violation.
_MANY_BYTES: Final = 100_000_000
# An annotation of ours: only what the task names itself is filled from the results of dependencies.
NAMED_ONLY: Final = "x-named-only"
# An annotation of ours: nothing is filled from the results of dependencies; the task names all its inputs.
EXPLICIT_ONLY: Final = "x-explicit-only"
_PYDANTIC_STARS: Final = "**********"  # how pydantic writes a SecretStr


class InputSchema(ABC):
    """A compiled schema. `properties` and `required` are those of the top level."""

    json_schema: Schema
    properties: Mapping[str, Json]
    required: frozenset[str]
    defaults: Mapping[str, Json]  # of the top level; containers among them are never handed out themselves
    allows_additional: bool
    # Set by the annotation "x-named-only": a property is filled from a dependency's result only when the
    # task names it, so that a hostile result cannot choose what an executor runs or connects to.
    is_named_only: bool
    is_explicit_only: bool  # set by the annotation "x-explicit-only": no result of a dependency is filled in

    def __init__(self, json_schema: Schema) -> None:
        parts = declared_parts(json_schema)
        properties: dict[str, Json] = {}
        required: set[str] = set()
        for part in parts:
            properties |= part.get("properties", {})
            required.update(part.get("required", ()))
        self.json_schema = json_schema
        self.properties = properties
        self.required = frozenset(required)
        self.defaults = {
            name: declared["default"]
            for name, declared in properties.items()
            if isinstance(declared, dict) and "default" in declared
        }
        self.allows_additional = all(_allows_additional(part) for part in parts)
        self.is_named_only = json_schema.get(NAMED_ONLY) is True
        self.is_explicit_only = json_schema.get(EXPLICIT_ONLY) is True

    def fill_defaults(self, value: dict[str, Json]) -> None:
        """Add the defaults of what `value` lacks, in place."""
        for name, default in self.defaults.items():
            if name not in value:
                value[name] = copy_json(default)

    def validate(self, value: Json, path: str = "inputs") -> Json:
        """Return the value as the schema reads it.

        Raises `ValidationError` with every violation, each as "path: message".
        """
        if value and type(value) in CONTAINERS and is_deeper(value, _MAX_DEPTH):
            fault = f"{path}: is nested more than {_MAX_DEPTH} deep"
            raise ValidationError(fault, [fault])
        return self._validate(value, path)

    @abstractmethod
    def _validate(self, value: Json, path: str) -> Json: ...


class JsonInputSchema(InputSchema):
    """A schema given as JSON Schema. The value comes back as it was."""

    def __init__(self, json_schema: Schema) -> None:
        self._weight = weigh(json_schema)
        self._words = orjson.dumps(json_schema).count(b":")
        self._is_valid_to_rs = _validator(json_schema)
        self._filler = DefaultFiller.of(json_schema)
        super().__init__(json_schema)

    def fill_defaults(self, value: dict[str, Json]) -> None:
        """Add the defaults of what `value` lacks, in place, in the objects inside it too."""
        super().fill_defaults(value)
        if self._filler:
            self._filler.fill(value)

    def _validate(self, value: Json, path: str) -> Json:
        if self._weight > _CHEAP:
            self._check_size(value, path)
        if not self._is_valid_to_rs.is_valid(value):
            raise _broken(path, list(self._violations(value, path)))
        return value

    def _check_size(self, value: Json, path: str) -> None:
        most = _MAX_EVALUATIONS // self._weight
        if is_larger(value, most):
            fault = (
                f"{path}: has more than {most:,} values, too many for this schema, which evaluates each up "
                f"to {self._weight:,} times"
            )
            raise ValidationError(f"The {path} cannot be validated: {fault}.", [fault])

    def _violations(self, value: Json, path: str) -> Iterator[str]:
        weight = len(dumps(value)) * self._words * self._weight
        if is_larger(value, _MANY_VALUES) or weight > _MANY_BYTES:
            yield self._first_violation(value, path)
            return
        errors = list(self._is_valid_to_rs.iter_errors(value))[:_MAX_VIOLATIONS]
        # The second validator hides values: a long one would drown the message, and half a secret
        # that was cut off could not be recognised any more.
        masked = (
            list(_validator(self.json_schema, mask="value").iter_errors(value))
            if any(len(error.message) > _MAX_MESSAGE_LENGTH for error in errors)
            else errors
        )
        for shown, hidden in zip(errors, masked, strict=False):
            message = shown.message if len(shown.message) <= _MAX_MESSAGE_LENGTH else hidden.message
            yield f"{path_of(path, shown.instance_path)}: {message[: 5 * _MAX_MESSAGE_LENGTH]}"

    def _first_violation(self, value: Json, path: str) -> str:
        import jsonschema_rs

        try:
            _validator(self.json_schema, mask="value").validate(value)
        except jsonschema_rs.ValidationError as error:
            message = f"{error.message[: 5 * _MAX_MESSAGE_LENGTH]} (the first violation of a large value)"
            return f"{path_of(path, error.instance_path)}: {message}"
        return f"{path}: breaks the schema"


class NarrowedSchema(InputSchema):
    """The schema of a task on top of its executor's: both must hold, and the task's defaults come first."""

    def __init__(self, own: InputSchema, base: InputSchema) -> None:
        self._own, self._base = own, base
        self.json_schema = {"allOf": [own.json_schema, base.json_schema]}
        self.properties = {**base.properties, **own.properties}
        self.required = own.required | base.required
        self.defaults = {**base.defaults, **own.defaults}
        self.allows_additional = own.allows_additional and base.allows_additional
        self.is_named_only = own.is_named_only or base.is_named_only
        self.is_explicit_only = own.is_explicit_only or base.is_explicit_only

    def fill_defaults(self, value: dict[str, Json]) -> None:
        """Add the defaults of what `value` lacks, in place."""
        self._own.fill_defaults(value)
        self._base.fill_defaults(value)

    def _validate(self, value: Json, path: str) -> Json:
        return self._base.validate(self._own.validate(value, path), path)


def narrowed(own: InputSchema | None, base: InputSchema | None) -> InputSchema | None:
    """Return the schema of a task's inputs: its executor's, narrowed by its own."""
    if own is None or base is None:
        return base if own is None else own
    return NarrowedSchema(own, base)


class ModelInputSchema(InputSchema):
    """A schema given as a pydantic class, which validates, converts and knows its defaults."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        super().__init__(_schema_of_model(model))
        self._has_secrets = b'"writeOnly"' in orjson.dumps(self.json_schema)

    def _validate(self, value: Json, path: str) -> Json:
        from pydantic import ValidationError as PydanticError
        from pydantic_core import PydanticSerializationError

        given = self._without_defaults(value)
        try:
            model = self._model.model_validate_json(dumps(given))
            read: Json = model.model_dump(mode="json", by_alias=True)
        except PydanticError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise _broken(path, [f"{path_of(path, each['loc'])}: {each['msg']}" for each in found]) from error
        except PydanticSerializationError as error:
            raise _broken(path, [f"{path}: {error}"]) from error
        if self._has_secrets:
            _keep_secrets(read, given)
        if not isinstance(read, dict) or not isinstance(value, dict):
            return cast(Json, read)
        return {**cast("dict[str, Json]", value), **cast("dict[str, Json]", read)}

    def _without_defaults(self, value: Json) -> Json:
        """Leave out what equals a default, so that the model supplies it unvalidated, as pydantic does."""
        if not isinstance(value, dict) or not self.defaults:
            return cast(Json, value)
        given = cast("dict[str, Json]", value)
        return {
            name: each
            for name, each in given.items()
            if not (
                name in self.defaults
                and type(each) is type(self.defaults[name])
                and each == self.defaults[name]
            )
        }


def compile_schema(source: Schema | type | InputSchema | None) -> InputSchema | None:
    """Compile a JSON Schema or a pydantic class; None and {} stay without a schema.

    Raises `ValidationError` naming what is wrong with it.
    """
    if isinstance(source, InputSchema):
        return source
    if not source:
        return None
    if isinstance(source, dict):
        try:
            return _compiled(orjson.dumps(source))
        except TypeError:
            return _compiled(dumps(_plain(source)))
    return _compiled_model(source)


def check_schema(source: Schema) -> None:
    """Raise `ValidationError` unless `source` is a JSON Schema that needs nothing from elsewhere.

    Its defaults are filled into an empty object, to see that they stay within their bounds.
    """
    schema = compile_schema(_plain(source))
    if schema is not None:
        schema.fill_defaults({})


def _plain(source: Schema) -> Schema:
    try:
        plain = storable(source, "schema")
    except InvalidInputError as error:
        raise ValidationError(f"Not a valid JSON Schema: {error}", error.violations) from error
    if not isinstance(plain, dict):
        raise ValidationError("Not a valid JSON Schema: it is not an object.", ["schema: is not an object"])
    return cast(Schema, plain)


@lru_cache(maxsize=1024)
def _compiled(text: bytes) -> InputSchema:
    return JsonInputSchema(_plain(orjson.loads(text)))


@lru_cache(maxsize=256)
def _compiled_model(source: type) -> InputSchema:
    if not hasattr(source, "model_json_schema"):
        raise ValidationError(f"{source!r} is neither a JSON Schema nor a pydantic class.")
    return ModelInputSchema(cast("type[BaseModel]", source))


def _validator(schema: Schema, mask: str | None = None) -> Validator:
    import jsonschema_rs

    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT, size_limit=_PATTERN_BYTES)
    try:
        return jsonschema_rs.validator_for(schema, offline=True, pattern_options=options, mask=mask)
    except jsonschema_rs.ValidationError as error:
        where = path_of("schema", error.instance_path)
        fault = f"{where}: {error.message}"
        raise ValidationError(f"Not a usable JSON Schema: {fault}", [fault]) from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValidationError(f"Not a usable JSON Schema: {error}", [str(error)]) from error


def _schema_of_model(model: type[BaseModel]) -> Schema:
    from pydantic.errors import PydanticUserError

    try:
        return model.model_json_schema()
    except PydanticUserError as error:
        raise ValidationError(f"{model.__qualname__} has no JSON Schema: {error.message}") from error


def _allows_additional(part: Schema) -> bool:
    """Return whether undeclared properties may be added."""
    restricts = any(word in part for word in ("propertyNames", "maxProperties"))
    closed = any(part.get(word, True) not in (True, {}) for word in _CLOSING)
    return not restricts and not closed


_CLOSING = ("additionalProperties", "unevaluatedProperties")


def _broken(path: str, violations: list[str]) -> ValidationError:
    shown = "; ".join(violations[:10])
    more = f"; and {len(violations) - 10} more" if len(violations) > 10 else ""
    return ValidationError(f"The {path} break the schema: {shown}{more}", violations)


def _keep_secrets(read: Json, given: Json) -> None:
    """Put back, in place, what pydantic's secret types turned into stars on the way out."""
    waiting: list[tuple[Json, Json]] = [(read, given)]
    while waiting:
        to, source = waiting.pop()
        for key in _shared_keys(to, source):
            if to[key] == _PYDANTIC_STARS:
                to[key] = source[key]
            else:
                waiting.append((to[key], source[key]))


def _shared_keys(one: Json, other: Json) -> list[str] | range:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(cast(Schema, one).keys() & cast(Schema, other).keys())
    if isinstance(one, list) and isinstance(other, list):
        return range(min(len(cast("list[Json]", one)), len(cast("list[Json]", other))))
    return []
