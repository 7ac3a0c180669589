"""profiles/ -> Catalogue: the shipped directory first, then overlays that add entries or replace them by id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from v4deploy.catalogue.check import check_engines, check_models
from v4deploy.catalogue.merge import ModelBuilder
from v4deploy.catalogue.wire_engines import engine_of
from v4deploy.catalogue.wire_graphs import graphs_of
from v4deploy.catalogue.wire_hardware import hardware_of
from v4deploy.catalogue.wire_models import WireModel
from v4deploy.catalogue.wire_speed import speed_model_of
from v4deploy.catalogue.yaml_source import YamlDocument, parse_profile, read_yaml
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.chip import Chip
from v4deploy.domain.compute_graph import ComputeGraph
from v4deploy.domain.container_devices import ContainerDevices
from v4deploy.domain.engine import EngineId, EngineProfile, MemoryModel
from v4deploy.domain.speed_model import SpeedModel


def load_catalogue(profile_dirs: Sequence[Path], *, with_speed: bool = True, with_graphs: bool = True) -> Catalogue:
    """Read `models/`, `hardware/`, `engines/`, `compute_graphs/` and `speed/` of each directory.

    A later directory wins over an earlier one.

    Without the speed model or the compute graphs for the tools that make them.

    Raises:
        ProfileError: a file is not of its form, or the whole does not hold together; names file, line and key.
    """
    chips, containers = _hardware(profile_dirs)
    engines = _engines(profile_dirs, _compute_graphs(profile_dirs) if with_graphs else {}, containers)
    check_engines(engines, profile_dirs)
    builders = _models(profile_dirs)
    check_models(builders, engines)
    return Catalogue(
        models=tuple(builder.build() for builder in builders),
        chips=chips,
        engines=engines,
        speed=_speed(profile_dirs) if with_speed else SpeedModel(),
    )


def _documents(directory: Path) -> Iterator[YamlDocument]:
    for path in sorted(directory.glob("*")):
        if path.suffix in {".yaml", ".yml"}:
            yield read_yaml(path)


def _models(profile_dirs: Iterable[Path]) -> tuple[ModelBuilder, ...]:
    builders: dict[str, ModelBuilder] = {}
    for directory in profile_dirs:
        for document in _documents(directory / "models"):
            wire = parse_profile(WireModel, document)
            builders.setdefault(wire.id, ModelBuilder()).add(wire, document)
    return tuple(builders.values())


def _hardware(profile_dirs: Iterable[Path]) -> tuple[tuple[Chip, ...], tuple[ContainerDevices, ...]]:
    chips: dict[str, Chip] = {}
    containers: dict[str, ContainerDevices] = {}
    for directory in profile_dirs:
        here: dict[str, Chip] = {}
        for document in _documents(directory / "hardware"):
            hardware = hardware_of(document)
            if hardware.containers is not None:
                containers[hardware.containers.compute_api] = hardware.containers
            for chip in hardware.chips:
                if chip.id in here:
                    raise document.error((), f"the chip `{chip.id}` is defined twice in {directory / 'hardware'}")
                here[chip.id] = chip
        chips |= here
    return tuple(chips.values()), tuple(containers.values())


def _engines(
    profile_dirs: Iterable[Path],
    graphs: Mapping[MemoryModel, tuple[ComputeGraph, ...]],
    containers: tuple[ContainerDevices, ...],
) -> tuple[EngineProfile, ...]:
    engines: dict[EngineId, EngineProfile] = {}
    for directory in profile_dirs:
        here: dict[EngineId, EngineProfile] = {}
        for document in _documents(directory / "engines"):
            engine = engine_of(document)
            if engine.id in here:
                raise document.error((), f"the engine `{engine.id}` is defined twice in {directory / 'engines'}")
            here[engine.id] = engine
        engines |= here
    # Ollama starts llama.cpp's server: what one profile says of the memory model holds for every engine that has it.
    split = {engine.memory_model: engine.split_memory for engine in engines.values() if engine.split_memory is not None}
    return tuple(
        replace(
            engine,
            split_memory=engine.split_memory or split.get(engine.memory_model),
            compute_graphs=graphs.get(engine.memory_model, ()),
            container_devices=containers,
        )
        for engine in engines.values()
    )


def _compute_graphs(profile_dirs: Iterable[Path]) -> dict[MemoryModel, tuple[ComputeGraph, ...]]:
    documents = (document for directory in profile_dirs for document in _documents(directory / "compute_graphs"))
    return dict(map(graphs_of, documents))


def _speed(profile_dirs: Iterable[Path]) -> SpeedModel:
    found = [path for directory in profile_dirs if (path := directory / "speed" / "model.yaml").is_file()]
    return speed_model_of(read_yaml(found[-1])) if found else SpeedModel()
