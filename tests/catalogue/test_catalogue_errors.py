"""Profiles that do not hold together: each mistake is named with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from v4deploy.catalogue.load import load_catalogue
from v4deploy.domain.errors import ProfileError

Make = Callable[[str], Path]


def _error(directory: Path) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        load_catalogue([directory])
    return caught.value


def test_the_small_model_itself_is_sound(profiles: Callable[[], Path]) -> None:
    (model,) = load_catalogue([profiles()]).models
    assert [checkpoint.id for checkpoint in model.checkpoints] == ["tiny-0101-q8_0", "tiny-0101-q4_0"]
    assert [file.path for file in model.checkpoints[0].files] == [
        "Q8_0/tiny-Q8_0-00001-of-00002.gguf",
        "Q8_0/tiny-Q8_0-00002-of-00002.gguf",
    ]
    assert [file.path for file in model.checkpoints[1].files] == ["Q4_0/tiny-Q4_0-*-of-*.gguf"]
    assert model.checkpoints[0].source.source == "made up for tests"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    engines: [llama.cpp]", "    enginse: [llama.cpp]", "repositories.0.enginse: unknown key"),
        ("bytes: 300,", "bytes: lots,", "repositories.0.quants.Q8_0.bytes: input should be a valid integer"),
        ("bytes: 300,", "bytes: 0,", "repositories.0.quants.Q8_0.bytes: input should be greater than 0"),
        ("as_of: 2026-11-22\narch", "as_of: yesterday\narch", "as_of: string should match pattern"),
        (
            "    release: tiny-0101",
            "    release: tiny-0102",
            "repositories.0.release: no release is called `tiny-0102`",
        ),
        ("status: superseded", "status: current", "releases.1.status: `tiny-preview` is current, but so is"),
        ("status: current", "status: announced", "id: no release of `tiny` has `status: current`"),
        ("id: tiny-preview", "id: tiny-0101", "releases.1: `tiny-0101` is defined twice; first on line 17"),
        ("id: tiny-preview", "id: tiny-model", "releases.1: `tiny-model` already names something of the model `tiny`"),
        ("quant: Q8_0, reason", "quant: Q8, reason", "quant_aliases.0.quant: no checkpoint of the model has the quant"),
        ("names: [q8]", "names: [q8, q8]", "quant_aliases.0: `q8 -> Q8_0` is defined twice"),
        ("bytes: 300,", "bytes: 301,", "repositories.0.quants.Q8_0.bytes: the files sum to 300 bytes, not 301"),
        ("bytes: 300,", "bytes: 300, parts: 3,", "repositories.0.quants.Q8_0.parts: `files` lists 2, but there are 3"),
        ("bytes: 150,", "bytes: 150, dense_bytes: 151,", "repositories.0.quants.Q4_0.bytes: its parts (151 bytes)"),
        ("engines: [llama.cpp]", "engines: [vllm]", "repositories.0.engines: `vllm` does not load `gguf`"),
        ("engines: [llama.cpp]", "engines: []", "repositories.0.engines: `runnable: driven` needs engines"),
        ("engines: [llama.cpp]", "engines: [lama]", "repositories.0.engines.0: input should be 'vllm'"),
        (
            "engines: [llama.cpp]",
            "engines: [llama.cpp]\n    runnable: other-engine",
            "repositories.0.engines: `runnable: other-engine` needs no engines",
        ),
        ("license: MIT\n", "license: MIT\nlicense: MIT\n", "license: this key stands twice"),
        ("license: MIT\n", "", "license: this key is required and missing"),
        ("source: made up for tests\n", "", "source: this key is required and missing"),
    ],
)
def test_a_mistake_in_a_model(profiles: Make, model_text: str, old: str, new: str, expected: str) -> None:
    assert model_text.count(old) == 1
    text = model_text.replace(old, new)
    directory = profiles(text)
    message = _error(directory).message
    place, _, rest = message.partition(": ")
    path, _, line = place.rpartition(":")
    assert path == str(directory / "models" / "tiny.yaml")
    assert rest.startswith(expected)
    if new and "missing" not in expected and not expected.startswith("id:"):
        key = expected.partition(":")[0].rpartition(".")[2]
        assert key.isdigit() or key in text.splitlines()[int(line) - 1]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("    engines: [llama.cpp]", "    enginse: [llama.cpp]", "did you mean `engines`?"),
        ("    release: tiny-0101", "    release: tiny-0102", "did you mean `tiny-0101`?"),
        ("quant: Q8_0, reason", "quant: Q8-0, reason", "did you mean `Q8_0`"),
    ],
)
def test_a_near_miss_gets_a_suggestion(profiles: Make, model_text: str, old: str, new: str, hint: str) -> None:
    assert hint in (_error(profiles(model_text.replace(old, new))).hint or "")


def test_an_engine_without_a_profile_is_named(profiles: Callable[[], Path]) -> None:
    directory = profiles()
    (directory / "engines" / "ollama.yaml").unlink()
    assert _error(directory).message.startswith("no profile for the engine `ollama`")


@pytest.mark.parametrize(("part", "name"), [("engines", "ollama.yaml"), ("hardware", "apple.yaml")])
def test_an_id_twice_in_one_directory_is_refused(profiles: Callable[[], Path], part: str, name: str) -> None:
    directory = profiles()
    again = directory / part / f"zz-{name}"
    again.write_text((directory / part / name).read_text(encoding="utf-8"), encoding="utf-8")
    error = _error(directory)
    assert str(again) in error.message
    assert "is defined twice" in error.message
