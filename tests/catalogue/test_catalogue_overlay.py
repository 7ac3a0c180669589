"""The user's own profiles: they add entries, and replace those of the same id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from v4deploy.catalogue.load import load_catalogue
from v4deploy.domain.catalogue import resolve_quant
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.model import Model

HEAD = "id: tiny\nsource: my notes\nas_of: 2026-11-23\n"


def _tiny(shipped: Path, mine: Path) -> Model:
    return load_catalogue([shipped, mine]).model_and_release("tiny")[0]


def test_a_quant_is_added_and_the_rest_stays(profiles: Callable[[], Path], overlay: Callable[[str], Path]) -> None:
    mine = overlay(
        HEAD + "repositories:\n"
        "  - {repo: me/tiny, release: tiny-0101, format: gguf, engines: [ollama], quants: {Q2_K: {bytes: 80}}}\n"
        "quant_aliases:\n  - {names: [q2], quant: Q2_K, reason: mine}\n"
    )
    model = _tiny(profiles(), mine)
    assert [checkpoint.quant for checkpoint in model.checkpoints] == ["Q8_0", "Q4_0", "Q2_K"]
    assert model.checkpoints[-1].source.source == "my notes"
    assert model.name == "Tiny"
    assert resolve_quant(model, model.current_release, "q2")[0] == "Q2_K"
    assert resolve_quant(model, model.current_release, "q8")[0] == "Q8_0"


def test_an_entry_of_the_same_id_is_replaced(profiles: Callable[[], Path], overlay: Callable[[str], Path]) -> None:
    mine = overlay(
        HEAD + "name: My Tiny\nrepositories:\n"
        "  - {repo: me/tiny, release: tiny-0101, format: gguf, engines: [ollama], quants: {Q4_0: {bytes: 151}}}\n"
    )
    model = _tiny(profiles(), mine)
    assert [(checkpoint.quant, checkpoint.size_bytes) for checkpoint in model.checkpoints] == [
        ("Q8_0", 300),
        ("Q4_0", 151),
    ]
    assert model.name == "My Tiny"


def test_a_new_release_becomes_current_when_the_old_one_steps_back(
    profiles: Callable[[], Path], overlay: Callable[[str], Path]
) -> None:
    mine = overlay(
        HEAD + "releases:\n"
        "  - {id: tiny-0101, name: Tiny 0101, status: superseded, released: 2026-01-01}\n"
        "  - {id: tiny-1201, name: Tiny 1201, status: current, released: 2026-12-01}\n"
    )
    assert _tiny(profiles(), mine).current_release.id == "tiny-1201"


def test_a_second_current_release_is_refused_in_the_file_that_brings_it(
    profiles: Callable[[], Path], overlay: Callable[[str], Path]
) -> None:
    mine = overlay(HEAD + "releases:\n  - {id: tiny-1201, name: New, status: current, released: 2026-12-01}\n")
    with pytest.raises(ProfileError, match=r"mine\.yaml:5: releases\.0\.status: "):
        load_catalogue([profiles(), mine])


def test_a_new_model_has_to_be_whole(profiles: Callable[[], Path], overlay: Callable[[str], Path]) -> None:
    mine = overlay(HEAD.replace("tiny", "other"))
    with pytest.raises(ProfileError, match=r"mine\.yaml:1: name: this key is required and missing"):
        load_catalogue([profiles(), mine])


def test_a_whole_new_model_is_added(
    profiles: Callable[[], Path], overlay: Callable[[str], Path], model_text: str
) -> None:
    catalogue = load_catalogue([profiles(), overlay(model_text.replace("tiny", "huge"))])
    assert [model.id for model in catalogue.models] == ["tiny", "huge"]


def test_an_alias_may_not_take_the_name_of_another_model(
    profiles: Callable[[], Path], overlay: Callable[[str], Path], model_text: str
) -> None:
    mine = overlay(model_text.replace("tiny", "huge").replace("[huge-model]", "[tiny]"))
    with pytest.raises(ProfileError, match="`tiny` already names something of the model `tiny`"):
        load_catalogue([profiles(), mine])


def test_an_overlay_without_profiles_changes_nothing(profiles: Callable[[], Path], tmp_path: Path) -> None:
    shipped = profiles()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert load_catalogue([shipped, empty]) == load_catalogue([shipped])


def test_a_file_that_ends_in_yml_counts_too(profiles: Callable[[], Path], overlay: Callable[[str], Path]) -> None:
    mine = overlay(HEAD + "name: My Tiny\n")
    (mine / "models" / "mine.yaml").rename(mine / "models" / "mine.yml")
    assert _tiny(profiles(), mine).name == "My Tiny"
