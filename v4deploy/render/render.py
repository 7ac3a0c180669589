"""Templates and values to files, without touching a disk."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

import jinja2
import yaml

from v4deploy.documents import from_data
from v4deploy.domain.artefact import Artefact, ArtefactSet
from v4deploy.domain.catalogue import unknown_name
from v4deploy.domain.errors import ProfileError
from v4deploy.render.environment import make_environment

TARGET_FILE = "target.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSet:
    """Template texts by their path below templates/, forward slashes; the user's overlay is already merged in."""

    texts: Mapping[str, str]

    def targets(self, engine: str) -> tuple[str, ...]:
        """Launch targets that have templates for this engine, sorted."""
        parts = (path.split("/") for path in self.texts)
        return tuple(sorted(p[1] for p in parts if len(p) == 3 and p[0] == engine and p[2] == TARGET_FILE))  # noqa: PLR2004


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFile:
    """An entry of target.yaml.

    Attributes:
        template: file beside target.yaml.
        path: where it is written, relative; may name values (`{{ unit_name }}.service`).
        mode: octal digits as in chmod.
        when: name of a boolean value; the file is left out where that is false.
    """

    template: str
    path: str
    mode: str = "0644"
    when: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDefinition:
    """target.yaml of one engine and target.

    Attributes:
        checked: which tool accepted files of this kind, and where they ran; templates print it in their header.
    """

    files: tuple[TargetFile, ...] = field(default=())
    checked: str = "by nobody but you"


def render(engine: str, target: str, values: Mapping[str, object], templates: TemplateSet) -> ArtefactSet:
    """All files of an engine and target.

    Raises:
        UsageError: the engine has no such target; the message lists those that it has.
        ProfileError: a template or target.yaml is broken; the message names it and the line.
    """
    known = templates.targets(engine)
    if target not in known:
        raise unknown_name("target", target, known, of=engine)
    folder = f"{engine}/{target}"
    environment = make_environment(templates.texts)
    definition = _read_definition(f"{folder}/{TARGET_FILE}", templates)
    values = {**values, "checked": definition.checked}
    artefacts = tuple(
        _render_file(environment, templates.texts, folder, entry, values)
        for entry in definition.files
        if _is_wanted(entry, values, folder)
    )
    return ArtefactSet(engine=engine, target=target, artefacts=artefacts)


def _read_definition(path: str, templates: TemplateSet) -> TargetDefinition:
    try:
        data = yaml.safe_load(templates.texts[path])
    except yaml.YAMLError as error:
        raise ProfileError(f"templates/{path} is not YAML: {error}") from error
    return from_data(TargetDefinition, data, name=f"templates/{path}")


def _is_wanted(entry: TargetFile, values: Mapping[str, object], folder: str) -> bool:
    if entry.when is None:
        return True
    wanted = values.get(entry.when)
    if not isinstance(wanted, bool):
        raise ProfileError(f"templates/{folder}/{TARGET_FILE}: `when: {entry.when}` names no boolean value")
    return wanted


def _render_file(
    environment: jinja2.Environment,
    texts: Mapping[str, str],
    folder: str,
    entry: TargetFile,
    values: Mapping[str, object],
) -> Artefact:
    name = f"{folder}/{entry.template}"
    try:
        text = environment.get_template(name).render(values)
        path = environment.from_string(entry.path).render(values)
    except jinja2.TemplateNotFound as error:
        raise ProfileError(f"templates/{folder}/{TARGET_FILE} names `{error.name}`, which is not there") from error
    except jinja2.TemplateSyntaxError as error:
        raise ProfileError(f"templates/{error.name or name}:{error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise ProfileError(f"templates/{_place_of(error, texts, name)}: {error}") from error
    return Artefact(path=_checked_path(path, folder), text=text, mode=_mode(entry, folder))


def _place_of(error: BaseException, texts: Mapping[str, str], name: str) -> str:
    """Template and line: Jinja rewrites tracebacks so that their frames point at templates; the innermost counts."""
    place = name
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename in texts:
            place = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}"
        step = step.tb_next
    return place


def _checked_path(path: str, folder: str) -> str:
    normal = posixpath.normpath(path)
    if normal != path or path.startswith(("/", "..")) or "\\" in path or not path.isprintable():
        raise ProfileError(f"templates/{folder}/{TARGET_FILE}: `{path}` does not stay inside the output directory")
    return path


def _mode(entry: TargetFile, folder: str) -> int:
    try:
        return int(entry.mode, 8)
    except ValueError as error:
        raise ProfileError(
            f'templates/{folder}/{TARGET_FILE}: mode `{entry.mode}` is not octal, as in "0755"'
        ) from error
