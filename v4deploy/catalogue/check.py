"""What no single file can promise: references that resolve, ids that are unique, parts that add up."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from v4deploy.catalogue.merge import Entry, ModelBuilder
from v4deploy.domain.engine import EngineId, EngineProfile, MemoryModel
from v4deploy.domain.errors import ProfileError
from v4deploy.domain.model import Checkpoint, CheckpointFormat, Release, Runnable, Status


def check_models(builders: Sequence[ModelBuilder], engines: Sequence[EngineProfile]) -> None:
    """Check each model, and that no name means two things.

    Raises:
        ProfileError: names file, line and key of the first thing that does not hold.
    """
    profiles = {engine.id: engine for engine in engines}
    for builder in builders:
        _check_releases(builder)
        for entry in builder.checkpoints.values():
            _check_release_of(entry, builder.releases)
            _check_engines_of(entry, profiles)
            _check_files_of(entry)
        _check_aliases(builder)
    _check_names(builders)


def check_engines(engines: Sequence[EngineProfile], profile_dirs: Iterable[Path]) -> None:
    """Every engine that the code knows has a profile, with the figures of its memory model.

    Raises:
        ProfileError: one has none.
    """
    missing = sorted(set(EngineId) - {engine.id for engine in engines})
    if missing:
        searched = ", ".join(str(directory / "engines") for directory in profile_dirs)
        raise ProfileError(f"no profile for the engine `{missing[0]}` in {searched}")
    for engine in engines:
        if engine.memory_model is MemoryModel.LLAMA_CPP and engine.split_memory is None:
            raise ProfileError(f"no engine profile has `split_memory`, which `{engine.id}` needs")


def _check_releases(builder: ModelBuilder) -> None:
    model = builder.wires[0]
    current = [entry for entry in builder.releases.values() if entry.value.status is Status.CURRENT]
    if not current:
        raise model.error(f"no release of `{model.value.id}` has `status: current`")
    if len(current) > 1:
        raise current[1].error(
            f"`{current[1].value.id}` is current, but so is `{current[0].value.id}`; one release is current",
            key="status",
        )


def _check_release_of(entry: Entry[Checkpoint], releases: dict[str, Entry[Release]]) -> None:
    release = entry.value.release
    if release not in releases:
        near = difflib.get_close_matches(release, releases, n=1)
        raise _repository_error(
            entry,
            "release",
            f"no release is called `{release}`",
            hint=f"did you mean `{near[0]}`?" if near else f"known: {', '.join(releases)}",
        )


def _check_engines_of(entry: Entry[Checkpoint], profiles: dict[EngineId, EngineProfile]) -> None:
    checkpoint = entry.value
    if (checkpoint.runnable is Runnable.DRIVEN) != bool(checkpoint.engines):
        raise _repository_error(
            entry,
            "engines",
            f"`runnable: {checkpoint.runnable}` needs {'' if not checkpoint.engines else 'no '}engines",
        )
    for engine in checkpoint.engines:
        if checkpoint.format not in profiles[engine].formats:
            raise _repository_error(
                entry, "engines", f"`{engine}` does not load `{checkpoint.format}`, says profiles/engines"
            )


def _check_files_of(entry: Entry[Checkpoint]) -> None:
    checkpoint = entry.value
    inside = (checkpoint.dense_bytes or 0) + (checkpoint.draft_bytes or 0) + checkpoint.offloadable_bytes
    if checkpoint.size_bytes is not None and inside > checkpoint.size_bytes:
        raise entry.error(f"its parts ({inside:,} bytes) are larger than the whole", key="bytes")
    if checkpoint.format is CheckpointFormat.GGUF:
        _check_parts_of(entry)


def _check_parts_of(entry: Entry[Checkpoint]) -> None:
    checkpoint = entry.value
    sizes = [file.size_bytes for file in checkpoint.files]
    if checkpoint.shards and len(sizes) > 1 and len(sizes) != checkpoint.shards:
        raise entry.error(f"`files` lists {len(sizes)}, but there are {checkpoint.shards} parts", key="parts")
    known = [size for size in sizes if size is not None]
    if known and len(known) == len(sizes) and checkpoint.size_bytes != sum(known):
        raise entry.error(f"the files sum to {sum(known):,} bytes, not {checkpoint.size_bytes or 0:,}", key="bytes")


def _check_aliases(builder: ModelBuilder) -> None:
    quants = {entry.value.quant for entry in builder.checkpoints.values()}
    for entry in builder.aliases.values():
        if entry.value.quant not in quants:
            near = difflib.get_close_matches(entry.value.quant, quants, n=2)
            raise entry.error(
                f"no checkpoint of the model has the quant `{entry.value.quant}`",
                key="quant",
                hint=f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else None,
            )


def _check_names(builders: Sequence[ModelBuilder]) -> None:
    """A name on the command line is a model, an alias or a release, and means one of them only."""
    owners: dict[str, str] = {}
    for builder in builders:
        model = builder.wires[0]
        names: list[tuple[str, Callable[[str], ProfileError]]] = [(model.value.id, model.error)]
        names += [(alias.lower(), model.error) for alias in builder.build().aliases]
        names += [(entry.value.id, entry.error) for entry in builder.releases.values()]
        for name, error in names:
            if name in owners:
                raise error(f"`{name}` already names something of the model `{owners[name]}`")
            owners[name] = model.value.id


def _repository_error(entry: Entry[Checkpoint], key: str, message: str, *, hint: str | None = None) -> ProfileError:
    """An error about a key that the repository gives, two levels above the quant."""
    return entry.document.error((*entry.path[:2], key), message, hint=hint)
