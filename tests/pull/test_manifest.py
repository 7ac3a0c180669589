from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pull_builders import COMMIT, listed
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.model import FileRole, Hub
from v4deploy.pull.manifest import (
    MANIFEST_NAME,
    FilePlan,
    Manifest,
    from_json,
    is_safe_path,
    role_of,
    split_name,
    split_problems,
    to_json,
)


def manifest(*files: FilePlan) -> Manifest:
    empty = Manifest(
        repo="a/b",
        hub=Hub.HUGGINGFACE,
        revision=COMMIT,
        endpoint_host="huggingface.co",
        fetched_at="2026-11-22T10:00:00+00:00",
        files=(),
        selections=(),
    )
    return empty.with_selection("one", (FileRole.MAIN,), files)


_FILES = st.builds(
    FilePlan,
    path=st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?\.gguf", fullmatch=True),
    size_bytes=st.integers(0, 2**50),
    role=st.sampled_from(FileRole),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    modified_nanoseconds=st.none() | st.integers(0, 2**62),
)


@given(st.lists(_FILES, unique_by=lambda file: file.path))
def test_a_manifest_survives_json(files: list[FilePlan]) -> None:
    whole = manifest(*files)
    assert from_json(to_json(whole), name="m.json") == whole


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("v4deploy.manifest/1", "v4deploy.manifest/9", "v4deploy.manifest/9"),
        ('"size_bytes": 10', '"size_bytes": "ten"', "files.0.size_bytes"),
        ('"size_bytes"', '"size"', "size"),
        ("x.gguf", "../x.gguf", "not a path inside"),
        ("x.gguf", "/etc/x", "not a path inside"),
        (f'"{0:064x}"', "null", "no hash"),
        ("{", "", "not JSON"),
    ],
)
def test_an_edited_manifest_is_refused_with_a_way_out(old: str, new: str, words: str) -> None:
    text = to_json(manifest(*listed("x.gguf")))
    assert old in text
    with pytest.raises(ProfileError) as caught:
        from_json(text.replace(old, new, 1), name="dir/m.json")
    assert words in caught.value.message
    assert caught.value.hint is not None
    assert "delete dir/m.json" in caught.value.hint


def test_selecting_again_keeps_what_is_finished_and_drops_what_changed() -> None:
    one, two = listed("a.gguf", "b.gguf")
    done = dataclasses.replace(one, modified_nanoseconds=5)
    before = manifest(one, two).with_file(done)
    changed = dataclasses.replace(two, sha256="e" * 64)
    after = before.with_selection("one", (FileRole.MAIN,), (one, changed))
    assert after.files == (done, changed)


def test_a_later_selection_of_other_roles_is_added() -> None:
    main, draft = listed("a.gguf", "dspark-a.gguf")
    after = manifest(main).with_selection("one", (FileRole.DRAFT,), (draft,))
    selection = after.selection("one")
    assert selection is not None
    assert selection.paths == ("a.gguf", "dspark-a.gguf")
    assert set(selection.roles) == {FileRole.MAIN, FileRole.DRAFT}
    assert len(after.selections) == 1


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("UD-Q4_K_XL/DeepSeek-V4-Flash-UD-Q4_K_XL-00001-of-00005.gguf", FileRole.MAIN),
        ("dspark-DeepSeek-V4-Flash-0731-Q8_0.gguf", FileRole.DRAFT),
        ("DeepSeek-V4-Flash-MTP-Q4K-Q8_0-F32.gguf", FileRole.DRAFT),
        ("mtp-DeepSeek-V4-Flash.gguf", FileRole.DRAFT),
        ("mmproj-F16.gguf", FileRole.MMPROJ),
        ("model-00001-of-00048.safetensors", FileRole.MAIN),
        ("model.safetensors.index.json", FileRole.CONFIG),
        ("config.json", FileRole.CONFIG),
        ("tokenizer.json", FileRole.TOKENIZER),
        ("tokenizer_config.json", FileRole.TOKENIZER),
        ("README.md", FileRole.OTHER),
        ("inference/model.py", FileRole.OTHER),
        # Of somebody who uploaded what they had pulled: it must not take the place of ours.
        (MANIFEST_NAME, FileRole.OTHER),
    ],
)
def test_names_tell_roles(path: str, role: FileRole) -> None:
    assert role_of(path) is role


@pytest.mark.parametrize("path", ["a.gguf", "a/b.gguf", "a/..b/c"])
def test_paths_inside(path: str) -> None:
    assert is_safe_path(path)


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "./a", "a\\b", "a/", "a\0b"])
def test_paths_outside(path: str) -> None:
    assert not is_safe_path(path)


@given(st.integers(1, 99), st.data())
def test_a_split_set_is_whole_exactly_when_every_part_is_there(count: int, data: st.DataObject) -> None:
    paths = [f"q/m-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    assert split_problems([*paths, "config.json"]) == ()
    lost = data.draw(st.integers(0, count - 1))
    left = paths[:lost] + paths[lost + 1 :]
    problems = split_problems(left)
    assert bool(problems) == bool(left)
    if left:
        assert f"part {lost + 1} of {count} is missing" in problems[0]


def test_parts_of_two_uploads_are_told_from_a_whole_set() -> None:
    mixed = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf", "q/m-00001-of-00003.gguf"]
    assert "two uploads are mixed, split in 2 and 3" in split_problems(mixed)[0]


def test_a_part_beyond_the_count_is_noticed() -> None:
    assert "beyond" in split_problems(["m-00001-of-00001.gguf", "m-00002-of-00001.gguf"])[0]


def test_a_split_name_comes_apart() -> None:
    part = split_name("q/m-00002-of-00005.gguf")
    assert part is not None
    assert (part.stem, part.number, part.count, part.suffix) == ("q/m", 2, 5, ".gguf")
    assert split_name("q/m.gguf") is None
