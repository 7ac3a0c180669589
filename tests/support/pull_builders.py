"""Small repositories and checkpoints for tests of the downloader."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path

from v4deploy.domain.model import Checkpoint, CheckpointFormat, FileRole, Hub, WeightFile
from v4deploy.domain.source import Source
from v4deploy.pull.manifest import FilePlan, role_of

REPO = "tiny/V4-Tiny-GGUF"
QUANT = "UD-Q4_K_XL"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def checkpoint(  # noqa: PLR0913 - a test names what it needs
    *,
    repo: str = REPO,
    quant: str = QUANT,
    prefix: str = QUANT,
    revision: str | None = None,
    form: CheckpointFormat = CheckpointFormat.GGUF,
    size_bytes: int | None = None,
    files: tuple[WeightFile, ...] = (),
    side_files: tuple[WeightFile, ...] = (),
    hub: Hub = Hub.HUGGINGFACE,
) -> Checkpoint:
    return Checkpoint(
        id=f"v4-tiny-{quant.lower()}",
        model="v4-tiny",
        release="v4-tiny-0101",
        hub=hub,
        repo=repo,
        revision=revision,
        format=form,
        quant=quant,
        size_bytes=size_bytes,
        shards=None,
        engines=(),
        files=files,
        side_files=side_files,
        path_prefix=prefix,
        source=Source(source="made for a test", as_of="2026-11-22"),
    )


def listed(*paths: str, size_bytes: int = 10) -> tuple[FilePlan, ...]:
    return tuple(
        FilePlan(path=path, size_bytes=size_bytes, role=role_of(path), sha256=f"{index:064x}")
        for index, path in enumerate(paths)
    )


def pinned(path: str, *, size_bytes: int | None = None, sha256: str | None = None) -> WeightFile:
    return WeightFile(path=path, role=FileRole.MAIN, size_bytes=size_bytes, sha256=sha256)


def gguf_bytes(*, seed: int, body_bytes: int, part: int = 1, parts: int = 1) -> bytes:
    """A GGUF file with a true header and noise for its one tensor (none without a body)."""
    keys = text_key("general.architecture", "deepseek4") + _array_key("tokenizer.ggml.tokens", ("a", "b", "c"))
    count = 2
    if parts > 1:
        keys += number_key("split.no", part - 1) + number_key("split.count", parts)
        keys += number_key("split.tensors.count", parts if body_bytes else 0)
        count += 3
    tensors = [gguf_tensor(f"blk.{part}.ffn", (body_bytes,))] if body_bytes else []
    return gguf_head(count, keys, tensors) + random.Random(seed).randbytes(body_bytes)


def gguf_head(key_count: int, keys: bytes, tensors: Sequence[bytes] = (), *, version: int = 3) -> bytes:
    """Everything up to the first tensor's bytes, padded to where they begin."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), key_count) + keys + b"".join(tensors)
    return head + bytes(-len(head) % 32)


def gguf_tensor(name: str, shape: tuple[int, ...], *, offset: int = 0, kind: int = 24) -> bytes:
    """What a header says of a tensor; 24 is I8."""
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _name(name) + dimensions + struct.pack("<IQ", kind, offset)


def safetensors_bytes(*, seed: int, body_bytes: int) -> bytes:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "weight": {"dtype": "U8", "shape": [body_bytes], "data_offsets": [0, body_bytes]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(body_bytes)


def _name(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def text_key(name: str, value: str) -> bytes:
    return _name(name) + struct.pack("<I", 8) + _name(value)


def number_key(name: str, value: int) -> bytes:
    return _name(name) + struct.pack("<IH", 2, value)


def _array_key(name: str, values: tuple[str, ...]) -> bytes:
    return _name(name) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(_name(value) for value in values)


def gguf_repository(root: Path, *, body_bytes: int = 300_000, parts: int = 3) -> dict[str, bytes]:
    """Writes `tiny/V4-Tiny-GGUF` with two quants, a draft and small files; returns the bytes of the first quant."""
    home = root / REPO
    wanted: dict[str, bytes] = {}
    for quant, seed in ((QUANT, 1), ("UD-IQ1_S", 2)):
        for part in range(1, parts + 1):
            path = f"{quant}/V4-Tiny-{quant}-{part:05d}-of-{parts:05d}.gguf"
            data = gguf_bytes(seed=seed * 100 + part, body_bytes=body_bytes, part=part, parts=parts)
            write(home / path, data)
            if quant == QUANT:
                wanted[path] = data
    write(home / "dspark-V4-Tiny-Q8_0.gguf", gguf_bytes(seed=9, body_bytes=1000))
    write(home / "README.md", b"# a card\n")
    write(home / "config.json", b"{}\n")
    return wanted


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
