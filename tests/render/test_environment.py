from __future__ import annotations

import json
import shlex
import subprocess

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.render.environment import (
    comment,
    compose_text,
    json_text,
    make_environment,
    modelfile_text,
    shell_text,
    systemd_command,
    systemd_text,
    systemd_value,
    yaml_text,
)

words = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029"), min_size=1)
plain = st.recursive(
    st.booleans() | st.integers() | words, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=8
)


@given(st.lists(words, min_size=1))
def test_shell_words_come_back_as_they_were(argv: list[str]) -> None:
    assert shlex.split(shell_text(argv).replace("\\\n", "")) == argv


def test_a_shell_really_reads_the_words() -> None:
    argv = ["printf", "%s\\n", "a b", "$HOME", "`id`", "it's", 'say "hi"', "semi;colon", "--flag", "x\\y"]
    script = f"exec {shell_text(argv)}\n"
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == argv[2:]


def test_a_command_line_has_one_option_a_line() -> None:
    assert (
        shell_text(("server", "--a", "1", "--b", "--c", "x y")) == "server \\\n    --a 1 \\\n    --b \\\n    --c 'x y'"
    )


@given(plain)
def test_yaml_comes_back_as_it_was(value: object) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


@pytest.mark.parametrize("word", ["no", "1e3", "08:30", "null", "~", "0o17", "1.0", "- x", "a: b", "#x", "*"])
def test_a_string_stays_a_string_in_yaml(word: str) -> None:
    assert yaml.safe_load(yaml_text(word)) == word
    assert yaml.safe_load(f"key:\n  - {yaml_text([word])[2:]}\n") == {"key": [word]}


def test_compose_interpolates_nothing() -> None:
    assert compose_text("/data/$HOME/${X}") == '"/data/$$HOME/$${X}"'


@given(plain)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert json.loads(json_text(value)) == value
    assert "\n" not in json_text(value, indent=None)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/usr/bin/llama-server", "/usr/bin/llama-server"),
        ("100%", "100%%"),
        ("a b", '"a b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("A=$HOME", "A=$HOME"),
        ("semi;colon", '"semi;colon"'),
        ("", '""'),
    ],
)
def test_values_of_unit_files(value: str, written: str) -> None:
    assert systemd_value(value) == written


def test_a_dollar_sign_is_only_doubled_where_systemd_expands_it() -> None:
    assert systemd_command("$HOME") == "$$HOME"
    assert systemd_command(("server", "--x", "$A b")) == 'server \\\n    --x "$$A b"'
    assert systemd_text("50% of $HOME") == "50%% of $HOME"


@given(st.text())
def test_a_comment_never_leaves_its_line(text: str) -> None:
    assert len(comment(f"# {text}").splitlines()) <= 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/a b/c.gguf", "/a b/c.gguf"),
        ("two\nlines", '"""two\nlines"""'),
        (" led by a blank", '""" led by a blank"""'),
        ('"quoted', '""""quoted"""'),
        (1, "1"),
    ],
)
def test_arguments_of_a_modelfile(value: object, written: str) -> None:
    assert modelfile_text(value) == written


def test_what_a_modelfile_cannot_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="three double quotes"):
        modelfile_text('a\n"""b')


def test_an_undefined_name_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        make_environment({}).from_string("{{ missing }}").render()


def test_an_unknown_value_is_never_printed() -> None:
    with pytest.raises(jinja2.UndefinedError, match="unknown"):
        make_environment({}).from_string("port: {{ port }}").render(port=None)
