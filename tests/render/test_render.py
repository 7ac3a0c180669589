from __future__ import annotations

from pathlib import Path

import pytest

from v4deploy.domain.errors import ProfileError, UsageError
from v4deploy.render.render import TemplateSet, render
from v4deploy.render.templates import load_templates

ONE_FILE = "files:\n  - {template: a.j2, path: a.txt}\n"


def templates(target: str = ONE_FILE, **texts: str) -> TemplateSet:
    named = {f"eng/t/{name.replace('_', '.')}": text for name, text in texts.items()}
    return TemplateSet(texts={"eng/t/target.yaml": target} | named)


def test_renders_text_path_and_mode() -> None:
    target = 'files:\n  - {template: a.j2, path: "{{ name }}.sh", mode: "0755"}\n'
    (artefact,) = render(
        "eng", "t", {"name": "run", "port": 8080}, templates(target, a_j2="port {{ port }}\n")
    ).artefacts
    assert (artefact.path, artefact.text, artefact.mode) == ("run.sh", "port 8080\n", 0o755)


def test_a_file_is_left_out_where_its_condition_is_false() -> None:
    target = "files:\n  - {template: a.j2, path: a, when: linux}\n  - {template: a.j2, path: b}\n"
    found = templates(target, a_j2="x")
    assert [a.path for a in render("eng", "t", {"linux": False}, found).artefacts] == ["b"]
    assert [a.path for a in render("eng", "t", {"linux": True}, found).artefacts] == ["a", "b"]


@pytest.mark.parametrize("values", [{}, {"linux": "yes"}])
def test_a_condition_must_be_a_boolean(values: dict[str, object]) -> None:
    target = "files:\n  - {template: a.j2, path: a, when: linux}\n"
    with pytest.raises(ProfileError, match=r"target\.yaml.*linux"):
        render("eng", "t", values, templates(target, a_j2="x"))


def test_an_unknown_target_names_the_near_ones() -> None:
    with pytest.raises(UsageError, match="`systemd-unit`") as raised:
        render("eng", "systemd-unit", {}, TemplateSet(texts={"eng/systemd/target.yaml": ONE_FILE}))
    assert "systemd" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("text", "line"),
    [("first\n{{ missing }}\n", 2), ("a\nb\n{% if %}\n", 3), ("{{ 1 | nosuchfilter }}", 1), ("\n\n{{ 1 + [] }}", 3)],
)
def test_a_broken_template_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ProfileError, match=rf"templates/eng/t/a\.j2:{line}: "):
        render("eng", "t", {}, templates(a_j2=text))


def test_an_error_inside_a_shared_macro_names_the_shared_file() -> None:
    shared = {"_shared/m.j2": "{% macro m() %}\n{{ missing }}\n{% endmacro %}\n"}
    user = templates(a_j2='{% from "_shared/m.j2" import m with context %}\n{{ m() }}')
    with pytest.raises(ProfileError, match=r"templates/_shared/m\.j2:2: 'missing'"):
        render("eng", "t", {}, TemplateSet(texts=dict(user.texts) | shared))


def test_a_template_that_is_not_there_is_named() -> None:
    with pytest.raises(ProfileError, match=r"a\.j2"):
        render("eng", "t", {}, templates())


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../up", "a\\\\b", "./a", "a//b"])
def test_no_path_leaves_the_output_directory(path: str) -> None:
    target = f'files:\n  - {{template: a.j2, path: "{path}"}}\n'
    with pytest.raises(ProfileError, match="output directory"):
        render("eng", "t", {}, templates(target, a_j2="x"))


def test_a_name_cannot_smuggle_in_a_path() -> None:
    target = 'files:\n  - {template: a.j2, path: "{{ name }}.conf"}\n'
    with pytest.raises(ProfileError, match="output directory"):
        render("eng", "t", {"name": "../../etc/x"}, templates(target, a_j2="x"))


@pytest.mark.parametrize(
    "target",
    [
        "files: {",
        "files: []\nfile: x\n",
        "files:\n  - {template: a.j2}\n",
        "files:\n  - {template: a.j2, path: a, mode: rw}\n",
    ],
)
def test_a_broken_target_file_is_named(target: str) -> None:
    with pytest.raises(ProfileError, match=r"templates/eng/t/target\.yaml"):
        render("eng", "t", {}, templates(target, a_j2="x"))


def test_an_overlay_replaces_a_template_and_adds_a_target(tmp_path: Path) -> None:
    for name, text in {
        "shipped/eng/t/target.yaml": ONE_FILE,
        "shipped/eng/t/a.j2": "shipped",
        "overlay/eng/t/a.j2": "mine",
        "overlay/eng/mine/target.yaml": ONE_FILE,
        "overlay/eng/mine/notes.txt": "not a template",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = load_templates([tmp_path / "shipped", tmp_path / "overlay"])
    assert render("eng", "t", {}, found).artefacts[0].text == "mine"
    assert found.targets("eng") == ("mine", "t")
    assert "eng/mine/notes.txt" not in found.texts


def test_a_template_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match=r"a\.j2"):
        load_templates([tmp_path])
