from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

import pytest

from v4deploy.documents import from_data, from_json, to_json
from v4deploy.domain.errors import ProfileError


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    colour: Colour
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    leaves: tuple[Leaf, ...]
    pairs: tuple[tuple[str, str], ...] = ()


TREE = Tree(leaves=(Leaf(colour=Colour.RED, size_bytes=3), Leaf(colour=Colour.RED)), pairs=(("a", "b"),))


def test_a_document_comes_back_as_it_went() -> None:
    assert from_json(Tree, "v4deploy.tree/1", to_json("v4deploy.tree/1", TREE), name="tree.json") == TREE


def test_what_a_command_printed_is_a_document_too() -> None:
    flat = json.loads(to_json("v4deploy.tree/1", TREE))
    schema = flat.pop("schema")
    printed = json.dumps({"schema": schema, "ok": True, "data": flat, "findings": [], "error": None})
    assert from_json(Tree, "v4deploy.tree/1", printed, name="tree.json") == TREE


def test_the_record_of_a_failure_is_refused_with_its_message() -> None:
    printed = json.dumps({"schema": "v4deploy.tree/1", "ok": False, "data": None, "error": {"message": "no room"}})
    with pytest.raises(ProfileError, match="no room"):
        from_json(Tree, "v4deploy.tree/1", printed, name="tree.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"leaves": [{"colour": "red", "sise_bytes": 3}]}, r"leaves\.0\.sise_bytes"),
        ({"leaves": [{"colour": "blue"}]}, r"leaves\.0\.colour"),
        ({"leaves": [{"colour": "red", "size_bytes": "3"}]}, r"leaves\.0\.size_bytes"),
        ({}, "leaves"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(data: object, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        from_data(Tree, data, name="tree.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "v4deploy.tree/2"}', "null"])
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(ProfileError):
        from_json(Tree, "v4deploy.tree/1", text, name="tree.json")
