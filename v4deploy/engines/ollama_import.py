"""What Ollama has to be given of a plan's model: the files in their order, the parameters, and what that takes."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping

from v4deploy.domain.engine import EngineProfile, LaunchOptions
from v4deploy.domain.errors import UsageError
from v4deploy.domain.model_import import ImportedFile, ModelImport
from v4deploy.domain.plan import Plan
from v4deploy.domain.versions import is_older
from v4deploy.engines import common
from v4deploy.engines.gguf_files import main_shards, pull_command

SOUND_VERSION = "0.32.6"
"""The first Ollama whose llama.cpp (b10242, 2026-08-04) has V4's cache fixes and the template of the dated releases."""

UNMERGED_VERSION = "0.35.0"
"""From here on Ollama keeps the parts of a split file as they are (splitGGUFMinOllamaVersion in its
server/create_split_gguf.go); before, it writes them into one more file."""

LICENSE = "MIT"
"""DeepSeek publishes all V4 weights under it."""

_PASSES = 6
"""How often an import reads or writes all weights: a part is hashed where nobody told its digest, read and written; for
the merged file the parts are read, it is written, and read to be hashed."""


def model_import(plan: Plan, options: LaunchOptions, profile: EngineProfile) -> ModelImport:
    """What to hand to Ollama's blob and create API.

    Raises:
        UsageError: the names of the files are not known.
    """
    passes_seconds = math.ceil(common.weights_bytes(plan) / common.LOAD_FLOOR_BYTES_PER_SECOND) * _PASSES
    return ModelImport(
        model=common.served_name(plan, options),
        files=imported_files(plan, options),
        parameters=tuple(parameters(plan).items()),
        license=LICENSE,
        minimum_version=required_version(plan, profile),
        is_merged=is_merging(common.engine_version(plan, options)),
        timeout_seconds=float(passes_seconds + common.START_UP_SECONDS),
    )


def imported_files(plan: Plan, options: LaunchOptions) -> tuple[ImportedFile, ...]:
    """Every split file, in order.

    Raises:
        UsageError: their names are not known.
    """
    shards = main_shards(plan.chosen.checkpoint)
    if not shards:
        raise UsageError(
            f"the file names of {plan.chosen.checkpoint.id} are not known yet",
            hint=f"fetch them first: `{pull_command(plan)}`",
        )
    return tuple(
        ImportedFile(
            path=posixpath.join(options.weights_dir, shard.path),
            name=posixpath.basename(shard.path),
            sha256=shard.sha256,
        )
        for shard in shards
    )


def parameters(plan: Plan) -> Mapping[str, int]:
    """Parameters stored with the model. DeepSeek recommends temperature 1 and top-p 1."""
    return {
        "num_ctx": plan.chosen.context_tokens,
        "num_batch": plan.chosen.batch_tokens,
        "temperature": 1,
        "top_p": 1,
        "top_k": 0,
        "min_p": 0,
    }


def required_version(plan: Plan, profile: EngineProfile) -> str:
    """The oldest Ollama for this release: its own minimum, and never below the one with V4's fixes."""
    minimum = common.minimum_version(plan, profile)
    return SOUND_VERSION if is_older(minimum, SOUND_VERSION) else minimum


def is_merging(version: str) -> bool:
    """Whether this version writes split files into one more. A version that cannot be read is taken to do it, as that
    takes more room.
    """
    try:
        return is_older(version, UNMERGED_VERSION)
    except ValueError:
        return True
