"""What llama.cpp and Ollama share: split files, the share of each device, processors that repacking breaks on."""

from __future__ import annotations

from v4deploy.domain.hardware import Host
from v4deploy.domain.model import Checkpoint, FileRole, WeightFile


def main_shards(checkpoint: Checkpoint) -> tuple[WeightFile, ...]:
    """The weight files in the order of their numbers; drafts and projectors are left out, as an engine that takes
    every `*.gguf` would load one of them as the model.

    Empty where the names are not known: none are listed, or only a pattern that a pull resolves.
    """
    files = tuple(file for file in checkpoint.files if file.role is FileRole.MAIN and file.path.endswith(".gguf"))
    if any(character in file.path for file in files for character in "*?["):
        return ()
    return tuple(sorted(files, key=lambda file: file.path))


def first_shard(checkpoint: Checkpoint) -> str | None:
    """The path of the file that llama.cpp opens: `...-00001-of-0000N.gguf`, or the only file.

    None where the names are not known, or none of several files is a first one.
    """
    shards = main_shards(checkpoint)
    if len(shards) == 1:
        return shards[0].path
    return next((file.path for file in shards if "-00001-of-" in file.path), None)


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
