"""The compute graphs of the profile are those of the installed llama.cpp."""

from __future__ import annotations

import pytest

from tests.planning.support import catalogue
from tools.llama_cpp.library import Library
from tools.read_compute_graphs import GRAPHS, read, text_of
from v4deploy.domain.engine import EngineId

pytestmark = [pytest.mark.engine, pytest.mark.contract]


def test_reading_them_again_gives_the_same_file() -> None:
    library = Library()
    graph = catalogue().engine(EngineId.LLAMA_CPP).compute_graphs[0]
    text = text_of(graph.build, read(library), graph.source.as_of)
    kept = GRAPHS.read_text(encoding="utf-8")
    if library.build == graph.build:
        assert text == kept
    # Another build may have other graphs; that reading it works is what is shown then.
    assert text.count("cache_types") == kept.count("cache_types")
