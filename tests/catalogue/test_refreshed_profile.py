"""What a refresh writes is read back as what was written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from v4deploy.catalogue.load import load_catalogue
from v4deploy.catalogue.refreshed import refreshed_profile
from v4deploy.domain.model import Checkpoint, FileRole, WeightFile
from v4deploy.domain.source import Source

SHIPPED = Path(__file__).parents[2] / "profiles"
SOURCE = Source(source="listing of hub.test", as_of="2026-11-28", confidence="A")


def refreshed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as a listing might leave it."""
    ending = "gguf" if checkpoint.format == "gguf" else "safetensors"
    home = f"{checkpoint.path_prefix}/" if checkpoint.path_prefix else ""
    names = [f"{home}m-{part:05d}-of-00002.{ending}" for part in (1, 2)]
    return dataclasses.replace(
        checkpoint,
        revision="f" * 40,
        size_bytes=10**12,
        shards=2,
        files=tuple(
            WeightFile(path=name, role=FileRole.MAIN, size_bytes=5 * 10**11, sha256="e" * 64) for name in names
        ),
        source=SOURCE,
    )


def test_every_checkpoint_of_the_catalogue_comes_back_whole(tmp_path: Path) -> None:
    shipped = load_catalogue([SHIPPED])
    (tmp_path / "models").mkdir()
    wanted: dict[str, Checkpoint] = {}
    for model in shipped.models:
        changed = [refreshed(checkpoint) for checkpoint in model.checkpoints]
        wanted |= {checkpoint.id: checkpoint for checkpoint in changed}
        text = refreshed_profile(model.id, changed, SOURCE)
        (tmp_path / "models" / f"{model.id}.yaml").write_text(text, encoding="utf-8")
    loaded = load_catalogue([SHIPPED, tmp_path])
    found = {checkpoint.id: checkpoint for model in loaded.models for checkpoint in model.checkpoints}
    assert found == wanted
    assert [model.releases for model in loaded.models] == [model.releases for model in shipped.models]
