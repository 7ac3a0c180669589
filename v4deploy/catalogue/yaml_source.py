"""YAML files as plain data that remembers its lines, so that every error can say file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from v4deploy.documents import FieldError, build
from v4deploy.domain.errors import ProfileError

try:  # the C parser reads the catalogue ten times as fast; it is missing where PyYAML was built without libyaml
    from yaml import CSafeLoader as _BaseLoader
except ImportError:
    from yaml import SafeLoader as _BaseLoader  # type: ignore[assignment]

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: text == "true",
    "null": lambda _: None,
}


class _Loader(_BaseLoader):
    """YAML 1.1 less its surprises: `no`, `on` and dates stay text, `0731` is no octal number, `<<` merges nothing."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute


for _kind, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"|~|null", ("", "~", "n")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?[0-9]+\.[0-9]+(?:e[-+]?[0-9]+)?", "-+0123456789"),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), list(_first))


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """One YAML file. `data` is made of dict, list, str, int, float, bool and None; keys are always text."""

    path: Path
    data: Any
    root: yaml.Node | None

    @property
    def name(self) -> str:
        """How errors call the file."""
        return str(self.path)

    def line_of(self, path: KeyPath) -> int:
        """The line, from 1, of the key or item that `path` leads to; of its nearest parent where there is none."""
        line, node = 1, self.root
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def error(self, path: KeyPath, message: str, *, hint: str | None = None) -> ProfileError:
        """A ProfileError that says file, line and key."""
        key = ".".join(str(part) for part in path)
        where = f"{self.name}:{self.line_of(path)}"
        return ProfileError(f"{where}: {key}: {message}" if key else f"{where}: {message}", hint=hint)


def read_yaml(path: Path) -> YamlDocument:
    """Read a file.

    Raises:
        ProfileError: it cannot be read, is not YAML, repeats a key, or uses tags.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> YamlDocument:
    """Read YAML text that came from `path`.

    Raises:
        ProfileError: it is not YAML, repeats a key, or uses tags.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        data = None if root is None else _plain(root, path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProfileError(f"{path}:{line}: this is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: this is not YAML: {error}") from error
    except RecursionError as error:
        raise ProfileError(f"{path}: an alias refers to itself, or the nesting is too deep") from error
    return YamlDocument(path=path, data=data, root=root)


def parse_profile(kind: type[T], document: YamlDocument, name: str | None = None) -> T:
    """Build the dataclass `kind` from a whole file; `name` replaces the file's path in errors.

    Raises:
        ProfileError: a key is unknown (with the nearest known ones), missing, or its value of the wrong type.
    """
    named = document if name is None else YamlDocument(path=Path(name), data=document.data, root=document.root)
    try:
        return build(kind, document.data)
    except FieldError as error:
        near = difflib.get_close_matches(str(error.path[-1]), error.known_keys, n=2) if error.known_keys else []
        hint = f"did you mean {' or '.join(f'`{key}`' for key in near)}?" if near else None
        if error.known_keys and not near:
            hint = f"known keys: {', '.join(error.known_keys)}"
        raise named.error(error.path, str(error), hint=hint) from error


def _plain(node: yaml.Node, path: Path) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _plain_mapping(node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path) for item in node.value]
    return _plain_scalar(node, path)


def _plain_mapping(node: yaml.MappingNode, path: Path) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ProfileError(f"{path}:{line}: a key has to be plain text")
        if key_node.value in data:
            raise ProfileError(f"{path}:{line}: {key_node.value}: this key stands twice in one mapping")
        data[key_node.value] = _plain(value_node, path)
    return data


def _plain_scalar(node: yaml.Node, path: Path) -> Any:
    convert = _SCALARS.get(node.tag.removeprefix(_TAG))
    line = node.start_mark.line + 1
    if convert is None:
        raise ProfileError(f"{path}:{line}: the tag `{node.tag}` is not allowed")
    try:
        return convert(node.value)
    except ValueError as error:
        raise ProfileError(f"{path}:{line}: `{node.value}` is not what its tag says") from error


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    """The line and node of one key or item."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == str(part):
                return key_node.start_mark.line + 1, value_node
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    return None
