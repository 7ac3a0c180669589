"""What llama.cpp and Ollama share: split files, the share of each device, processors that repacking breaks on."""

from __future__ import annotations

from dataclasses import replace

from v4deploy.domain.finding import Evidence, Finding, Severity
from v4deploy.domain.hardware import Host
from v4deploy.domain.model import Checkpoint, FileRole, WeightFile
from v4deploy.domain.plan import Plan
from v4deploy.engines.common import engine_word

_PARTS = "-*-of-*.gguf"


def main_shards(checkpoint: Checkpoint) -> tuple[WeightFile, ...]:
    """The weight files in the order of their numbers; drafts and projectors are left out, as an engine that takes
    every `*.gguf` would load one of them as the model.

    Where the catalogue has a pattern and the number of parts, these make the names. Empty where they are not known.
    """
    files = tuple(file for file in checkpoint.files if file.role is FileRole.MAIN and file.path.endswith(".gguf"))
    if any(_is_pattern(file.path) for file in files):
        return _derived_shards(files, checkpoint.shards)
    return tuple(sorted(files, key=lambda file: file.path))


def are_derived(checkpoint: Checkpoint) -> bool:
    """Whether the names of `main_shards` are made from a pattern; a later upload may be split into other parts."""
    return any(_is_pattern(file.path) for file in checkpoint.files) and bool(main_shards(checkpoint))


def pull_command(plan: Plan) -> str:
    """The command that fetches this plan's weights; several repositories may carry the same quant."""
    checkpoint = plan.chosen.checkpoint
    return f"v4deploy pull {plan.release.id} --quant {checkpoint.quant} --repo {checkpoint.repo}"


def files_unknown(plan: Plan) -> Finding:
    """The finding that the engine cannot be pointed at the weights before they are here."""
    return Finding(
        id=f"engine.{engine_word(plan.chosen.engine)}.files-unknown",
        severity=Severity.FAIL,
        summary=f"the file names of {plan.chosen.checkpoint.id} are not known yet",
        why="launch files name the weight files, and only the hub knows how this quant is split",
        fix=f"`{pull_command(plan)}`, or name the directory that holds them with `--weights`",
    )


def files_derived(plan: Plan) -> tuple[Finding, ...]:
    """The finding that the names in the launch files may not be those of the files."""
    if not are_derived(plan.chosen.checkpoint):
        return ()
    return (
        Finding(
            id=f"engine.{engine_word(plan.chosen.engine)}.files-derived",
            severity=Severity.INFO,
            summary="the weight files' names follow the publisher's pattern, for the number of parts in the catalogue",
            evidence=(Evidence(source="catalogue", value=f"{plan.chosen.checkpoint.shards} parts"),),
            why="publishers split anew when they upload again",
            fix=f"`{pull_command(plan)}`, then write the launch files again: they get the names that are there",
        ),
    )


def first_shard(checkpoint: Checkpoint) -> str | None:
    """The path of the file that llama.cpp opens: `...-00001-of-0000N.gguf`, or the only file.

    None where the names are not known, or none of several files is a first one.
    """
    shards = main_shards(checkpoint)
    if len(shards) == 1:
        return shards[0].path
    return next((file.path for file in shards if "-00001-of-" in file.path), None)


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _derived_shards(files: tuple[WeightFile, ...], shards: int | None) -> tuple[WeightFile, ...]:
    """The names that one pattern of `*` for part and parts stands for; empty where it is another kind of pattern."""
    stem = files[0].path.removesuffix(_PARTS)
    if len(files) != 1 or shards is None or stem == files[0].path or _is_pattern(stem):
        return ()
    return tuple(replace(files[0], path=f"{stem}-{number:05d}-of-{shards:05d}.gguf") for number in range(1, shards + 1))


def has_amx(host: Host) -> bool:
    """Whether the processor has AMX tiles (kernel flags `amx_tile`, `amx_int8`, `amx_bf16`)."""
    return any(feature.startswith("amx_") for feature in host.cpu.features)


def tensor_split(device_layers: tuple[int, ...]) -> str:
    """Layers by device; the engine counts the output layer as one more, and it lies on the last device.

    Left to itself the engine shares layers out by free memory as if all weighed the same; with the experts of the
    first layers in host memory the last device would get nearly all of the rest.
    """
    *others, last = device_layers
    return ",".join(str(layers) for layers in (*others, last + 1))
