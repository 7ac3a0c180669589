from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from v4deploy.catalogue.yaml_source import parse_profile, parse_yaml, read_yaml
from v4deploy.domain.errors import ProfileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    size: int
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    name: str
    shared: bool = False
    ladder: dict[str, Rung] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()


def _profile(text: str) -> Profile:
    return parse_profile(Profile, parse_yaml(text, Path("profiles/x.yaml")))


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2026-08-13", "2026-08-13"),
        ("0731", "0731"),
        ("1:30", "1:30"),
        ("0.25.0", "0.25.0"),
        ("true", True),
        ("155_095_241_120", 155095241120),
        ("1.5", 1.5),
        ("", None),
        ("null", None),
        ("'7'", "7"),
    ],
)
def test_scalars_mean_what_a_reader_thinks(scalar: str, expected: object) -> None:
    data = parse_yaml(f"key: {scalar}\n", Path("x.yaml")).data
    assert data == {"key": expected}
    assert type(data["key"]) is type(expected)


def test_keys_are_text() -> None:
    assert parse_yaml("{80: a, true: b, null: c}", Path("x.yaml")).data == {"80": "a", "true": "b", "null": "c"}


def test_the_line_of_a_key_an_item_and_something_missing() -> None:
    document = parse_yaml("name: x\nrungs:\n  - size: 1\n  - size: 2\n    note: hi\n", Path("x.yaml"))
    assert document.line_of(("name",)) == 1
    assert document.line_of(("rungs", 1)) == 4
    assert document.line_of(("rungs", 1, "note")) == 5
    assert document.line_of(("rungs", 1, "nowhere")) == 4
    assert document.line_of(()) == 1


def test_an_alias_leads_to_the_line_of_its_anchor() -> None:
    document = parse_yaml("a: &one\n  size: 1\nb: *one\n", Path("x.yaml"))
    assert document.data["b"] == {"size": 1}
    assert document.line_of(("b", "size")) == 2


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("name: x\nladder:\n  Q8:\n    sise: 1\n", "profiles/x.yaml:4: ladder.Q8.sise: unknown key", "`size`"),
        ("name: x\nrungs:\n- size: 1\n  nott: b\n", "profiles/x.yaml:4: rungs.0.nott: unknown key", "`note`"),
        ("name: x\nwholly: 1\n", "profiles/x.yaml:2: wholly: unknown key", "known keys: name, shared"),
        ("name: x\nrungs:\n- note: b\n", "profiles/x.yaml:3: rungs.0.size: this key is required and missing", None),
        ("name: x\nrungs:\n- size: big\n", "profiles/x.yaml:3: rungs.0.size: input should be a valid integer", None),
        ("name: 0.25\n", "profiles/x.yaml:1: name: input should be a valid string (it is 0.25)", None),
        ("name: x\nshared: yes\n", 'profiles/x.yaml:2: shared: input should be a valid boolean (it is "yes")', None),
        ("name: x\nname: y\n", "profiles/x.yaml:2: name: this key stands twice in one mapping", None),
        ("name: x\n<<: {}\n", "profiles/x.yaml:2: <<: unknown key", None),
        ("name: [x\n", "profiles/x.yaml:2: this is not YAML: ", None),
        ("name: !!python/name:os.system\n", "profiles/x.yaml:1: the tag `", None),
        ("name: !!int x\n", "profiles/x.yaml:1: `x` is not what its tag says", None),
        ("? [a]\n: b\n", "profiles/x.yaml:1: a key has to be plain text", None),
        ("a: &a [*a]\n", "profiles/x.yaml: an alias refers to itself", None),
        ("a: \x01\n", "profiles/x.yaml: this is not YAML: ", None),
        ("- name\n", "profiles/x.yaml:1: input should be an object", None),
        ("", "profiles/x.yaml:1: input should be an object", None),
    ],
)
def test_every_mistake_is_told_with_file_line_and_key(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(ProfileError) as caught:
        _profile(text)
    assert caught.value.message.startswith(message)
    assert hint is None or hint in (caught.value.hint or "")


def test_a_given_name_replaces_the_path_in_errors() -> None:
    with pytest.raises(ProfileError, match=r"^mine:1: name: "):
        parse_profile(Profile, parse_yaml("name: 1", Path("x.yaml")), "mine")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not UTF-8"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"x\.yaml cannot be read"):
        read_yaml(path)
