"""The YAML of recordings: plain values only, block text for outputs, and errors that name the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from v4deploy.domain.errors import ProfileError

try:  # the C parser is several times as fast; it is missing where PyYAML was built without libyaml
    from yaml import CSafeLoader as _SafeLoader
except ImportError:
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]


class _Loader(_SafeLoader):
    """Dates stay text, and so does `no`: a recording holds what was printed, not what YAML 1.1 makes of it."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Refuses a key that stands twice: PyYAML would keep the last and lose what was pasted first."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"`{key.value}` stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"|~|null", ("", "~", "n")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?[0-9]+\.[0-9]+(?:e[-+]?[0-9]+)?", "-+0123456789"),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), list(_first))


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a recorded output reads like the output."""

    # The reader's own rules, so that a text which it would take for a number is quoted.
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar(_TAG + "str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def read_yaml_file(path: Path) -> Any:
    """The file as plain data.

    Raises:
        ProfileError: it cannot be read, or is not YAML; the message names file and line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - derived from SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProfileError(f"{path}:{line}: this is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: this is not YAML: {error}") from error


def write_yaml_file(path: Path, data: Any) -> None:
    """Write plain data in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(text, encoding="utf-8")
