"""Chip families and documented launches on one server, for engines that run on nothing else than what is documented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from v4deploy.domain.source import Source

if TYPE_CHECKING:  # model.py names engines, whose profiles hold what is defined here
    from v4deploy.domain.model import DraftKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedParallelism:
    """A way to spread a model that a family does not run."""

    parallel: str
    what: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LesserDevices:
    """What was seen to run on devices with less memory than every recipe has."""

    model: str
    quant: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipFamily:
    """What differs between chip families outside of the model.

    Attributes:
        hardware_type: the cluster's word for the server.
        hardware_type_doubt: why that word may be another one; None where the documents name no other.
        image_tag_doubt: why the image's tag may be another one; None where the documents agree.
        quantized_weights: True where the weights have to be quantised again for it, False where the originals run.
        device_nodes: nodes beside those of the devices; a node that the host lacks is left out.
        mounts: driver files of the host; a path that the host lacks is left out.
        privileged: the documented containers run with `--privileged`.
        refused: what the plan's layout may not have.
        recipe_device_bytes: memory of a device in every recipe; None where less is not known to fail.
        recipe_chips: chips that the recipes were written for; empty where they hold for the whole family.
        environment: variables of every recipe.
    """

    arch: str
    name: str
    hardware_type: str
    hardware_type_doubt: str | None
    image_tag_doubt: str | None
    quantized_weights: bool
    device_nodes: tuple[str, ...]
    mounts: tuple[str, ...]
    privileged: bool
    refused: tuple[RefusedParallelism, ...]
    recipe_device_bytes: int | None
    lesser_devices: LesserDevices | None
    recipe_chips: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRecipe:
    """Arguments and variables that the documents give for a model on a family, on one server.

    Attributes:
        draft: the draft kind that it was written for.
        max_context_tokens: the longest context that it documents.
        arguments: beyond those that the plan decides.
        environment: variables beyond those of the family.
    """

    arch: str
    model: str
    draft: DraftKind
    max_context_tokens: int
    block_tokens: int
    draft_config: Mapping[str, object]
    arguments: Mapping[str, object] = field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ()
    source: Source
