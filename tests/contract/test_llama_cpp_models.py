"""Which models of the catalogue the installed llama.cpp knows, beside what the profile says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.planning.support import catalogue
from tools.llama_cpp.library import Library, LibraryError
from v4deploy.domain.engine import EngineId, SupportLevel
from v4deploy.shapes.tensors import GGUF_ARCHITECTURE

pytestmark = [pytest.mark.engine, pytest.mark.contract]


def test_a_model_is_ruled_out_as_long_as_the_engine_does_not_know_its_architecture(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    library = Library()
    others = [model for model in catalogue().models if model.architecture.gguf_arch != GGUF_ARCHITECTURE]
    assert [model.id for model in others] == ["v4.1-flash"]
    for model in others:
        path = tmp_path / f"{model.id}.gguf"
        writer = gguf.GGUFWriter(path, model.architecture.gguf_arch)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        # Should a newer build know it, its rows in the profile and docs/llama-cpp-memory.md are to be written anew.
        with (
            pytest.raises(LibraryError, match=f"unknown model architecture: '{model.architecture.gguf_arch}'"),
            library.model(path),
        ):
            pass
        rows = [row for row in catalogue().engine(EngineId.LLAMA_CPP).support if model.id in row.models]
        assert rows
        assert all(row.level is SupportLevel.UNSUPPORTED for row in rows)
