"""Checkpoints as a profile of their own: what a refresh writes, in the form that the loader reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from v4deploy.domain.model import Checkpoint, FileRole, Hub, LayerExperts, WeightFile
from v4deploy.domain.source import Source

_HEADER = """\
# Written by `v4deploy models --refresh`, and replaced by the next one: what the hubs listed, beside the catalogue that
# came with v4deploy. Your own profiles win over it. Delete the file to go back to the catalogue.
"""


def refreshed_profile(model: str, checkpoints: Iterable[Checkpoint], source: Source) -> str:
    """The text of a profile that replaces, or adds, these checkpoints of a model."""
    repositories: list[dict[str, Any]] = []
    for checkpoint in checkpoints:
        shared = _shared(checkpoint)
        entry = next((one for one in repositories if one | {"quants": {}} == shared | {"quants": {}}), None)
        if entry is None:
            repositories.append(entry := shared | {"quants": {}})
        entry["quants"][checkpoint.quant] = _quant(checkpoint)
    document = {"id": model, "source": source.source, "as_of": source.as_of, "repositories": repositories}
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _shared(checkpoint: Checkpoint) -> dict[str, Any]:
    """What checkpoints of a repository have in common: all of it, as an entry replaces the catalogue's whole."""
    label = checkpoint.id.removeprefix(checkpoint.release).removesuffix(checkpoint.quant.lower()).strip("-")
    return _without_defaults(
        {
            "repo": checkpoint.repo,
            "release": checkpoint.release,
            "label": label or None,
            "hub": checkpoint.hub.value if checkpoint.hub is not Hub.HUGGINGFACE else None,
            "format": checkpoint.format.value,
            "revision": checkpoint.revision,
            "official": checkpoint.official,
            "engines": [engine.value for engine in checkpoint.engines],
            "runnable": checkpoint.runnable.value,
            "compute_apis": list(checkpoint.compute_apis),
            "architectures": list(checkpoint.architectures),
            "side_files": [_file(file) for file in checkpoint.side_files],
            "source": checkpoint.source.source,
            "as_of": checkpoint.source.as_of,
            "confidence": checkpoint.source.confidence,
        }
    )


def _quant(checkpoint: Checkpoint) -> dict[str, Any]:
    return _without_defaults(
        {
            "bytes": checkpoint.size_bytes,
            "parts": checkpoint.shards,
            # Only its folder is read from it, as every file says its own path.
            "path": f"{checkpoint.path_prefix}/*" if checkpoint.path_prefix else None,
            "dense_bytes": checkpoint.dense_bytes,
            "layer_experts": _layer_experts(checkpoint.layer_experts),
            "draft_bytes": checkpoint.draft_bytes,
            "offloadable_bytes": checkpoint.offloadable_bytes,
            "quality": checkpoint.quality,
            "note": checkpoint.note,
            "files": [_part(file) for file in checkpoint.files],
        }
    )


def _layer_experts(experts: LayerExperts | None) -> dict[str, Any] | None:
    return None if experts is None else {"each": experts.each_bytes, "others": dict(experts.others)}


def _part(file: WeightFile) -> dict[str, Any]:
    entry = _file(file)
    if file.role is FileRole.MAIN:
        del entry["role"]
    return entry


def _file(file: WeightFile) -> dict[str, Any]:
    entry = {"path": file.path, "role": file.role.value, "bytes": file.size_bytes, "sha256": file.sha256}
    return _without_defaults(entry)


def _without_defaults(entry: dict[str, Any]) -> dict[str, Any]:
    """Without what the loader assumes anyway."""
    return {key: value for key, value in entry.items() if value not in (None, [], 0, False)}
