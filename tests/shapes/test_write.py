from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from v4deploy.domain.errors import UsageError
from v4deploy.shapes.metadata import metadata
from v4deploy.shapes.tensors import TensorClass, tensors
from v4deploy.shapes.tiny import TINY
from v4deploy.shapes.write import write_sparse, write_tiny

gguf: Any = pytest.importorskip("gguf", reason="the extra `embedded` is not installed")


def _hashes(files: tuple[Path, ...]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_tiny(tmp_path_factory.mktemp("tiny"), seed=1)


def test_the_same_seed_gives_the_same_bytes(files: tuple[Path, ...], tmp_path: Path) -> None:
    assert _hashes(write_tiny(tmp_path, seed=1)) == _hashes(files)


def test_another_seed_gives_other_weights(files: tuple[Path, ...], tmp_path: Path) -> None:
    assert not set(_hashes(write_tiny(tmp_path, seed=2))) & set(_hashes(files))


def test_shards_are_named_and_numbered_as_published_ones(files: tuple[Path, ...]) -> None:
    assert [file.name.rsplit("-", 3)[1:] for file in files] == [
        ["00001", "of", "00002.gguf"],
        ["00002", "of", "00002.gguf"],
    ]
    readers = [gguf.GGUFReader(file) for file in files]
    assert [reader.fields["split.no"].contents() for reader in readers] == [0, 1]
    assert [reader.fields["split.count"].contents() for reader in readers] == [2, 2]
    promised = {reader.fields["split.tensors.count"].contents() for reader in readers}
    assert promised == {len(tensors(TINY))} == {sum(len(reader.tensors) for reader in readers)}


def test_the_files_are_a_few_megabytes(files: tuple[Path, ...]) -> None:
    assert all(1_000_000 < file.stat().st_size < 10_000_000 for file in files)


def test_tensors_are_what_the_architecture_says(files: tuple[Path, ...]) -> None:
    found = {
        tensor.name: tuple(int(size) for size in reversed(tensor.shape))
        for file in files
        for tensor in gguf.GGUFReader(file).tensors
    }
    assert found == {tensor.name: tensor.shape for tensor in tensors(TINY)}


def test_metadata_is_in_the_first_shard(files: tuple[Path, ...]) -> None:
    fields = gguf.GGUFReader(files[0]).fields
    assert fields["general.architecture"].contents() == "deepseek4"
    for entry in metadata(TINY, name="x", description="y"):
        assert entry.key in fields
    assert tuple(fields["deepseek4.attention.compress_ratios"].contents()) == TINY.compress_ratios
    assert fields["deepseek4.rope.scaling.factor"].contents() == 16.0


def test_hash_tables_name_experts_that_exist(files: tuple[Path, ...]) -> None:
    tables = [tensor.data for file in files for tensor in gguf.GGUFReader(file).tensors if "tid2eid" in tensor.name]
    assert len(tables) == TINY.hash_layers
    assert all(table.min() >= 0 and table.max() < TINY.routed_experts for table in tables)


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_any_sensible_number_of_shards(tmp_path: Path, shards: int) -> None:
    written = write_tiny(tmp_path, seed=1, shards=shards)
    assert len(written) == shards
    assert sorted(tmp_path.iterdir()) == sorted(written)


@pytest.mark.parametrize("shards", [0, -1, 1000])
def test_a_silly_number_of_shards_is_refused_before_anything_is_written(tmp_path: Path, shards: int) -> None:
    with pytest.raises(UsageError, match="cannot be split"):
        write_tiny(tmp_path / "new", seed=1, shards=shards)
    assert not (tmp_path / "new").exists()


def test_a_sparse_file_has_the_size_of_its_parts_and_takes_no_room(tmp_path: Path) -> None:
    big = replace(TINY, routed_experts=256, expert_width=8192)
    path = tmp_path / "big.gguf"
    size_bytes = write_sparse(path, big, expert_type="MXFP4", dense_type="Q8_0")
    bytes_per_element = {
        TensorClass.EXPERT: 17 / 32,
        TensorClass.DENSE: 34 / 32,
        TensorClass.FULL: 4,
        TensorClass.INDEX: 4,
    }
    parts = sum(_padded(tensor.elements * bytes_per_element[tensor.kind]) for tensor in tensors(big))
    header = size_bytes - parts
    assert 0 < header < 100_000
    assert path.stat().st_size == size_bytes > 200_000_000
    assert path.stat().st_blocks * 512 < 1_000_000
    last = gguf.GGUFReader(path).tensors[-1]
    assert int(last.data_offset) + _padded(int(last.n_bytes)) == size_bytes


def _padded(size_bytes: float) -> int:
    assert size_bytes == int(size_bytes)
    return -(-int(size_bytes) // 32) * 32


def test_an_unknown_type_gets_the_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Q9_X") as caught:
        write_sparse(tmp_path / "x.gguf", TINY, expert_type="MXFP4", dense_type="Q9_X")
    assert "MXFP4" in str(caught.value.hint)


def test_a_type_whose_blocks_do_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Q4_K"):
        write_sparse(tmp_path / "x.gguf", TINY, expert_type="Q4_K", dense_type="Q8_0")


def test_without_the_extra_the_hint_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UsageError) as caught:
        write_tiny(tmp_path, seed=1)
    assert "v4deploy[embedded]" in str(caught.value.hint)
