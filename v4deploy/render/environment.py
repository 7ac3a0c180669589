"""The Jinja environment: undefined names are errors, and one filter for each syntax that values are written into."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

import jinja2
import yaml

_CONTINUATION = " \\\n    "
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_NO_WRAPPING = 1_000_000
_PLAIN_UNIT_WORD = re.compile(r"[A-Za-z0-9_./:,@+=%$~^-]+")


def make_environment(texts: Mapping[str, str]) -> jinja2.Environment:
    """An environment over template texts by path."""

    def load(path: str) -> tuple[str, str, None] | None:
        # With its path as a file name a template can be told apart in tracebacks; DictLoader gives none.
        return (texts[path], path, None) if path in texts else None

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - shell, YAML and unit files; HTML escapes would corrupt them
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_refuse_none,
    )
    environment.filters.update(
        comment=comment,
        compose=compose_text,
        json=json_text,
        modelfile=modelfile_text,
        shell=shell_text,
        systemd=systemd_command,
        systemd_text=systemd_text,
        systemd_value=systemd_value,
        xml=xml_text,
        xml_comment=xml_comment,
        yaml=yaml_text,
    )
    return environment


def _refuse_none(value: object) -> object:
    """An unknown must not be printed as the word "None" into a file that a program reads."""
    if value is None:
        raise jinja2.UndefinedError("a template prints a value that is unknown (None)")
    return value


def comment(value: object) -> str:
    """Text that stays on its line: a line break in a name would otherwise end the comment and be executed."""
    return _CONTROL_CHARACTERS.sub(" ", str(value)).rstrip()


def shell_text(value: str | Sequence[str]) -> str:
    """One quoted word; or a command line, one `--option value` a line."""
    if isinstance(value, str):
        return shlex.quote(value)
    return _CONTINUATION.join(" ".join(shlex.quote(word) for word in group) for group in _option_groups(value))


def systemd_value(value: object) -> str:
    """One word of a unit file outside of Exec lines (`Environment=`, paths): specifiers escaped, quoted if needed."""
    text = str(value).replace("%", "%%")
    if _PLAIN_UNIT_WORD.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def systemd_text(value: object) -> str:
    """The whole rest of a line that systemd takes as it is (`Description=`, the path of a credential)."""
    return comment(value).replace("%", "%%")


def systemd_command(value: str | Sequence[str]) -> str:
    """A word, or a command line, of an Exec line, where systemd itself expands `$NAME` too."""
    if isinstance(value, str):
        return systemd_value(value.replace("$", "$$"))
    return _CONTINUATION.join(" ".join(systemd_command(word) for word in group) for group in _option_groups(value))


def yaml_text(value: object) -> str:
    """YAML for plain data. A string is always quoted; a mapping or sequence is in block form, to be indented by
    the template.
    """
    if isinstance(value, str):
        return yaml.safe_dump(value, default_style='"', width=_NO_WRAPPING, allow_unicode=True).rstrip("\n")
    text = yaml.safe_dump(value, default_flow_style=False, sort_keys=False, width=_NO_WRAPPING, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")


def compose_text(value: object) -> str:
    """YAML in which Docker Compose interpolates nothing."""
    return yaml_text(value).replace("$", "$$")


def json_text(value: object, indent: int | None = 2) -> str:
    """JSON, keys in their own order; with `indent` None on one line."""
    return json.dumps(value, indent=indent, ensure_ascii=False)


def modelfile_text(value: object) -> str:
    """An argument of an Ollama Modelfile instruction.

    Raises:
        ValueError: the text holds three double quotes, for which the Modelfile has no escape.
    """
    text = str(value)
    if text == text.strip() and "\n" not in text and not text.startswith('"'):
        return text
    if '"""' in text:
        raise ValueError("a Modelfile cannot hold a text with three double quotes in a row")
    return f'"""{text}"""'


def xml_text(value: object) -> str:
    """Character data of an element."""
    return escape(comment(value))


def xml_comment(value: object) -> str:
    """Lines inside a comment, where two hyphens in a row would end it."""
    return str(value).replace("--", "- -").rstrip("\n")


def _option_groups(argv: Sequence[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    for word in argv:
        if not groups or word.startswith("--"):
            groups.append([word])
        else:
            groups[-1].append(word)
    return groups
