"""Writes GGUF files: the tiny model with random weights, and full size ones as sparse files without weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from v4deploy.domain.errors import UsageError
from v4deploy.domain.model import Architecture
from v4deploy.shapes.metadata import Entry, ValueKind, metadata
from v4deploy.shapes.tensors import GGUF_ARCHITECTURE, TensorClass, TensorShape, tensors
from v4deploy.shapes.tiny import TINY, TINY_DENSE_TYPE, TINY_EXPERT_TYPE, TINY_NAME
from v4deploy.shapes.tokenizer import tokenizer

if TYPE_CHECKING:
    from numpy.random import Generator

_DEVIATION = 0.05
# So that the demo prints readable noise: every token lifts channel 0, and in the head that channel speaks against all
# that is no printable ASCII character.
_STEERING_CHANNEL, _LIFT, _AGAINST = 0, 3.0, -6.0
_DEVIATIONS = {"token_embd.weight": 1.0, "output.weight": 0.2}
_PRINTABLE = slice(0x20, 0x7F)


def write_tiny(directory: Path, *, seed: int, shards: int = 2) -> tuple[Path, ...]:
    """Write the tiny V4 with random weights, a few MB, and return its files in order.

    The same seed gives the same bytes (with the same numpy). More than one shard gives the names and `split.*` keys
    of published V4 files; the first shard holds the metadata and is the one to load.

    Raises:
        UsageError: numpy or gguf is not installed, or the tensors cannot be split into that many files.
    """
    gguf = _gguf()
    from numpy.random import default_rng

    shapes = tensors(TINY)
    per_shard = math.ceil(len(shapes) / shards) if shards > 0 else 0
    if per_shard == 0 or math.ceil(len(shapes) / per_shard) != shards:
        raise UsageError(f"{len(shapes)} tensors cannot be split into {shards} files of about equal count")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{TINY_NAME}.gguf"
    writer = gguf.GGUFWriter(path, GGUF_ARCHITECTURE, split_max_tensors=per_shard if shards > 1 else 0)
    _add_entries(writer, TINY, name=TINY_NAME, description="random weights, made by v4deploy; its answers are noise")
    random = default_rng(seed)
    for shape in shapes:
        _add_random(gguf, writer, random, shape)
    files = tuple(writer.format_shard_names(path))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return files


def write_sparse(path: Path, architecture: Architecture, *, expert_type: str, dense_type: str) -> int:
    """Write a file of full size whose weights are a hole: an engine can be rehearsed on it before a download.

    Loaders check metadata and that each tensor lies inside the file, so this takes a few MB of disk (on file systems
    with sparse files) and loads like the real weights. Returns the apparent size in bytes.

    Args:
        path: the one file to write.
        architecture: a full size `deepseek4` architecture, as the catalogue has it.
        expert_type: ggml type of the routed experts (`MXFP4`, `IQ2_XXS`).
        dense_type: ggml type of the other matrices (`Q8_0`).

    Raises:
        UsageError: gguf is not installed, a type does not exist, or a row is no multiple of its block.
    """
    gguf = _gguf()
    types = _types(gguf, expert_type, dense_type)
    writer = gguf.GGUFWriter(path, GGUF_ARCHITECTURE)
    _add_entries(writer, architecture, name=architecture.id, description="shapes only, no weights; made by v4deploy")
    total_bytes = 0
    for shape in tensors(architecture):
        size_bytes = tensor_bytes(gguf, shape, types[shape.kind])
        writer.add_tensor_info(shape.name, shape.shape, None, size_bytes, raw_dtype=types[shape.kind])
        total_bytes += writer.ggml_pad(size_bytes, writer.data_alignment)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    file = writer.fout[0]
    end_bytes = writer.ggml_pad(file.tell(), writer.data_alignment) + total_bytes
    file.truncate(end_bytes)
    writer.close()
    return int(end_bytes)


def tensor_bytes(gguf: Any, shape: TensorShape, kind: Any) -> int:
    """Bytes of one tensor in a ggml type, by the block sizes of the gguf package.

    Raises:
        UsageError: a row is no multiple of the type's block, so that no such file can exist.
    """
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if shape.shape[-1] % block_elements:
        raise UsageError(
            f"`{shape.name}` cannot be {kind.name}: its rows of {shape.shape[-1]} are no multiple of {block_elements}",
            hint="choose a type with smaller blocks, for example Q8_0 or MXFP4",
        )
    return int(shape.elements // block_elements * block_bytes)


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise UsageError(
            f"model files cannot be written: {error}", hint="install it: `pip install 'v4deploy[embedded]'`"
        ) from error
    return gguf


def _types(gguf: Any, expert_type: str, dense_type: str) -> dict[TensorClass, Any]:
    known = gguf.GGMLQuantizationType
    for name in (expert_type, dense_type):
        if name not in known.__members__:
            raise UsageError(f"no ggml type is called `{name}`", hint=f"choose one of: {', '.join(known.__members__)}")
    return {
        TensorClass.EXPERT: known[expert_type],
        TensorClass.DENSE: known[dense_type],
        TensorClass.FULL: known.F32,
        TensorClass.INDEX: known.I32,
    }


def _add_entries(writer: Any, architecture: Architecture, *, name: str, description: str) -> None:
    entries = metadata(architecture, name=name, description=description)
    for entry in (*entries, *tokenizer(architecture.vocabulary)):
        _add_entry(writer, entry)


def _add_entry(writer: Any, entry: Entry) -> None:
    match entry.kind:
        case ValueKind.STRING:
            writer.add_string(entry.key, entry.value)
        case ValueKind.UINT32:
            writer.add_uint32(entry.key, entry.value)
        case ValueKind.FLOAT32:
            writer.add_float32(entry.key, entry.value)
        case ValueKind.BOOL:
            writer.add_bool(entry.key, entry.value)
        case ValueKind.ARRAY:
            writer.add_array(entry.key, entry.value)


def _add_random(gguf: Any, writer: Any, random: Generator, shape: TensorShape) -> None:
    import numpy as np

    if shape.kind is TensorClass.INDEX:
        writer.add_tensor(shape.name, random.integers(0, TINY.routed_experts, shape.shape, dtype=np.int32))
        return
    values = random.standard_normal(shape.shape, dtype=np.float32)
    values *= np.float32(_DEVIATIONS.get(shape.name, _DEVIATION))
    if shape.name.endswith("norm.weight"):
        values[:] = 1.0
    elif shape.name == "token_embd.weight":
        values[:, _STEERING_CHANNEL] = _LIFT
    elif shape.name == "output.weight":
        values[:, _STEERING_CHANNEL] = _AGAINST
        values[_PRINTABLE, _STEERING_CHANNEL] = 0.0
    kind = _types(gguf, TINY_EXPERT_TYPE, TINY_DENSE_TYPE)[shape.kind]
    if kind is gguf.GGMLQuantizationType.F32:
        writer.add_tensor(shape.name, values)
    else:
        writer.add_tensor(shape.name, gguf.quants.quantize(values, kind), raw_dtype=kind)
