"""Reads single answers of the readers: `{"value": ...}`, or `{"error": text, "code": number or null}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects of a list; nothing where it is no list."""
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())


def value_of(entry: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """The value of one answer; None where it is an error, missing, or of another type than expected."""
    value = mapping(entry.get(name)).get("value")
    return value if isinstance(value, kind) and not (kind is int and isinstance(value, bool)) else None


def error_of(entry: Mapping[str, Any], name: str, source: str) -> str | None:
    """Why an answer is missing; None where there is one."""
    answer = mapping(entry.get(name))
    return None if "value" in answer else f"{source}: {answer.get('error', 'no answer')}"
