"""The catalogue entry of the tiny model: plain data in the form of profiles/models/<model>.yaml."""

from __future__ import annotations

from collections.abc import Sequence

from v4deploy.documents import to_data
from v4deploy.shapes.tensors import TensorClass, tensors
from v4deploy.shapes.tiny import TINY, TINY_NAME

QUANT = "tiny"
# ggml's MXFP4: a block of 32 elements is 16 bytes of nibbles and one byte of scale.
_BLOCK_ELEMENTS, _BLOCK_BYTES = 32, 17
_SOURCE = {"source": "v4deploy: made on this machine, random weights", "as_of": "2026-11-22"}


def tiny_profile(
    *, model: str, release: str, repository: str, files: Sequence[tuple[str, int, str]]
) -> dict[str, object]:
    """The overlay file for a published tiny model.

    Args:
        model: id of the model.
        release: id of its only release.
        repository: hub id, `owner/name`.
        files: path in the repository, size in bytes and SHA-256 of each file.
    """
    total_bytes = sum(size for _, size, _ in files)
    return {
        "id": model,
        "name": f"{TINY_NAME} (random weights)",
        "aliases": [],
        "license": "MIT",
        "modalities": ["text"],
        "total_parameters": "2M",
        "active_parameters": "2M",
        "cloud_only_tags": [],
        **_SOURCE,
        "architecture": to_data(TINY),
        "releases": [
            {
                "id": release,
                "name": TINY_NAME,
                "status": "current",
                "released": "2026-11-22",
                "random_weights": True,
            }
        ],
        "repositories": [
            {
                "repo": repository,
                "release": release,
                "format": "gguf",
                "engines": ["llama.cpp"],
                "quants": {
                    QUANT: {
                        "bytes": total_bytes,
                        "dense_bytes": total_bytes - _expert_bytes(),
                        "files": [{"path": path, "bytes": size, "sha256": sha256} for path, size, sha256 in files],
                    }
                },
            }
        ],
    }


def _expert_bytes() -> int:
    experts = sum(shape.elements for shape in tensors(TINY) if shape.kind is TensorClass.EXPERT)
    return experts // _BLOCK_ELEMENTS * _BLOCK_BYTES
