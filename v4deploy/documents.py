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
    """Read a versioned document.

    Raises:
        ProfileError: not JSON, another schema, or a field that is missing, unknown or of the wrong type.
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
    return from_data(kind, data, name=name)


def from_data(kind: type[T], data: object, *, name: str) -> T:
    """Build `kind` from plain data.

    Raises:
        ProfileError: names the document and the path of the first wrong field.
    """
    hashable: Any = kind
    try:
        value: T = _adapter(hashable).validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"{name}: `{path}`: {first['msg']}") from error
    return value


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
