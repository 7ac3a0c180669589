"""The engines that v4deploy drives. To add one: a module (see base.py), its line here, a profile, templates."""

from __future__ import annotations

from v4deploy.domain.engine import EngineId
from v4deploy.engines import llama_cpp, mindie, ollama, vllm
from v4deploy.engines.base import Engine

ALL_ENGINES: tuple[Engine, ...] = (
    vllm,
    llama_cpp,
    ollama,
    mindie,
)


def engine_module(engine: EngineId) -> Engine:
    """The module that drives an engine."""
    return next(module for module in ALL_ENGINES if module.ID is engine)
