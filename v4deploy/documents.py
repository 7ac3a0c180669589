"""Frozen dataclasses to and from JSON: strict, with the path of every error. The one user of pydantic's TypeAdapter."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from v4deploy.domain.errors import ProfileError

T = TypeVar("T")


def to_data(value: object) -> Any:
    """A dataclass as plain JSON data (enums as their values, tuples as lists)."""
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json")


def to_json(schema: str, value: object) -> str:
    """A versioned document: the value's fields beside `schema`."""
    return json.dumps({"schema": schema, **to_data(value)}, indent=2, ensure_ascii=False) + "\n"


def from_json(kind: type[T], schema: str, text: str, *, name: str) -> T:
    """Read a versioned document: as `to_json` writes it, or as a command printed it with `--json`.

    Raises:
        ProfileError: not JSON, another schema, the record of a failure, or a field that is missing, unknown or of the
            wrong type.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ProfileError(f"{name} is not JSON: {error}") from error
    found = data.pop("schema", None) if isinstance(data, dict) else None
    if found != schema:
        raise ProfileError(
            f"{name} is not a `{schema}` document: its schema is `{found}`",
            hint="make it again with this version of v4deploy",
        )
    if {"ok", "data"} <= data.keys():
        if not data["ok"]:
            raise ProfileError(f"{name} records a failure: {(data.get('error') or {}).get('message', 'unknown')}")
        data = data["data"]
    return from_data(kind, data, name=name)


def from_data(kind: type[T], data: object, *, name: str) -> T:
    """Build `kind` from plain data.

    Raises:
        ProfileError: names the document and the path of the first wrong field.
    """
    try:
        return build(kind, data)
    except FieldError as error:
        raise ProfileError(f"{name}: `{error.dotted_path}`: {error}") from error


class FieldError(ValueError):
    """One wrong field of a document. `path` leads to it; for an unknown or missing key it ends with that key.

    Attributes:
        known_keys: set for an unknown key only: the keys that would have been right there.
    """

    def __init__(self, message: str, path: tuple[str | int, ...], known_keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.known_keys = known_keys

    @property
    def dotted_path(self) -> str:
        return ".".join(str(part) for part in self.path)


def build(kind: type[T], data: object) -> T:
    """Build `kind` from plain data, for callers that know more about a path than its text, such as its line.

    Raises:
        FieldError: the first wrong field; an unknown key before a missing one, being mostly the same key misspelt.
    """
    hashable: Any = kind
    try:
        value: T = _adapter(hashable).validate_json(json.dumps(data))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = min(errors, key=lambda one: one["type"] != "unexpected_keyword_argument")
        raise _field_error(kind, first["type"], first["loc"], first["msg"], first["input"]) from error
    return value


def _field_error(kind: type[Any], type_: str, path: tuple[str | int, ...], message: str, value: object) -> FieldError:
    if type_ == "unexpected_keyword_argument":
        return FieldError("unknown key", path, _keys_at(kind, path[:-1]))
    if type_ == "missing":
        return FieldError("this key is required and missing", path)
    shown = f" (it is {json.dumps(value)})" if isinstance(value, str | int | float) else ""
    return FieldError(f"{message[:1].lower()}{message[1:]}{shown}", path)


def _keys_at(kind: Any, path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The field names of the dataclass that `path` leads to; empty where it leads to something else."""
    for part in path:
        kind = _member(_without_none(kind), part)
    found = _without_none(kind)
    return tuple(field.name for field in dataclasses.fields(found)) if dataclasses.is_dataclass(found) else ()


def _member(kind: Any, part: str | int) -> Any:
    """The type of one field, item or value of `kind`."""
    if dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind).get(str(part))
    arguments = [argument for argument in typing.get_args(kind) if argument is not Ellipsis]
    if not arguments:
        return None
    return arguments[part] if isinstance(part, int) and part < len(arguments) else arguments[-1]


def _without_none(kind: Any) -> Any:
    if not isinstance(kind, types.UnionType):
        return kind
    others = [argument for argument in typing.get_args(kind) if argument is not types.NoneType]
    return others[0] if len(others) == 1 else None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    _make_strict(kind, set())
    return TypeAdapter(kind)


def _make_strict(kind: object, seen: set[object]) -> None:
    """Tell pydantic to refuse unknown keys and conversions, in this dataclass and in all that it holds.

    TypeAdapter takes no configuration for dataclasses, and the default would drop a misspelt key in silence.
    """
    for argument in typing.get_args(kind):
        _make_strict(argument, seen)
    if kind in seen or not isinstance(kind, type) or isinstance(kind, types.GenericAlias):
        return
    seen.add(kind)
    if dataclasses.is_dataclass(kind):
        kind.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
        for hint in typing.get_type_hints(kind).values():
            _make_strict(hint, seen)
