"""Weights, cache and compute buffer of every context on a grid, as llama.cpp itself works them out, beside ours."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.planning.support import catalogue
from tools.llama_cpp.derive import settings_of
from tools.llama_cpp.library import CACHE_TYPES, ContextRequest, Library, LoadedModel
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Architecture
from v4deploy.domain.units import MIB
from v4deploy.planning.attention import CacheSettings, llama_cpp_cache_bytes
from v4deploy.planning.compute_buffers import compute_buffer
from v4deploy.planning.weights import expert_bytes
from v4deploy.planning.weights_gguf import dense_bytes

pytestmark = [pytest.mark.engine, pytest.mark.contract]

K = 1024
CONTEXTS = tuple(tokens * K for tokens in (4, 8, 16, 32, 64, 128, 256, 512, 1024))
SLOTS = (1, 2, 4, 8)
BATCHES = (128, 256, 512, 1024, 2048, 4096)
GRID_TYPES = ("f16", "q8_0", "q4_0")
ELSEWHERE = 120
"""Contexts off the grid, of any length, batch, number of slots and cache type; the same ones every time."""

LOG_BYTES = MIB // 50
"""The engine prints hundredths of a MiB, seven for the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Ours less the engine's, in bytes, with the engine's own figure."""

    request: ContextRequest
    cache: int
    cache_said: int
    compute: int
    compute_said: int
    total: int
    total_said: int


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module", params=["v4-flash", "v4-pro"])
def loaded(
    request: pytest.FixtureRequest, library: Library, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LoadedModel, Architecture]]:
    from v4deploy.shapes.write import write_sparse

    found = next(model.architecture for model in catalogue().models if model.id == request.param)
    architecture = replace(found, id=request.param)
    path: Path = tmp_path_factory.mktemp("shapes") / f"{architecture.id}.gguf"
    write_sparse(path, architecture, expert_type="MXFP4", dense_type="Q8_0")
    with library.model(path) as model:
        yield model, architecture
    path.unlink()


def weights_of(architecture: Architecture) -> int:
    return dense_bytes(architecture) + architecture.layers * architecture.routed_experts * expert_bytes(architecture)


def grid(cache_type: str) -> Iterator[ContextRequest]:
    for context, slots, batch in itertools.product(CONTEXTS, SLOTS, BATCHES):
        yield ContextRequest(context_tokens=context, micro_batch_tokens=batch, slots=slots, cache_type=cache_type)


def elsewhere() -> Iterator[ContextRequest]:
    chance = random.Random(4)
    for _ in range(ELSEWHERE):
        yield ContextRequest(
            context_tokens=int(2 ** chance.uniform(10, 20)),
            micro_batch_tokens=int(2 ** chance.uniform(5, 12)),
            slots=chance.randint(1, 16),
            cache_type=chance.choice(sorted(CACHE_TYPES)),
        )


def residual(model: LoadedModel, architecture: Architecture, request: ContextRequest) -> Residual:
    with model.context(request) as (_, said):
        pass
    settings = CacheSettings(
        context_tokens=request.context_tokens,
        micro_batch_tokens=request.micro_batch_tokens,
        kv_cache_type=request.cache_type,
    )
    cache = llama_cpp_cache_bytes(architecture, settings, slots=request.slots)
    graphs = catalogue().engine(EngineId.LLAMA_CPP).compute_graphs
    buffer = compute_buffer(graphs, architecture, settings_of(request))
    assert buffer is not None
    total_said = model.weight_bytes + said.cache_bytes + said.compute_bytes
    return Residual(
        request=request,
        cache=cache - said.cache_bytes,
        cache_said=said.cache_bytes,
        compute=buffer.size_bytes - said.compute_bytes,
        compute_said=said.compute_bytes,
        total=weights_of(architecture) + cache + buffer.size_bytes - total_said,
        total_said=total_said,
    )


def shown(name: str, residuals: Sequence[Residual], of: Callable[[Residual], tuple[int, int]]) -> str:
    worst = max(residuals, key=lambda found: abs(of(found)[0] / of(found)[1]))
    off, said = of(worst)
    where = worst.request
    return (
        f"  {name:8} {off / MIB:+9.3f} MiB of {said / MIB:12.2f} ({off / said:+.4%}) at {where.context_tokens} tokens, "
        f"{where.slots} slots, batch {where.micro_batch_tokens}, {where.cache_type}"
    )


def check(title: str, residuals: Sequence[Residual], *, same_build: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{title}: worst of {len(residuals)}")  # noqa: T201 - the table is what this suite is for
        print(shown("cache", residuals, lambda found: (found.cache, found.cache_said)))  # noqa: T201
        print(shown("compute", residuals, lambda found: (found.compute, found.compute_said)))  # noqa: T201
        print(shown("total", residuals, lambda found: (found.total, found.total_said)))  # noqa: T201
    for found in residuals:
        assert abs(found.cache) <= max(MIB, found.cache_said // 1000), found
        assert abs(found.compute) <= found.compute_said // 20, found
        assert abs(found.total) <= found.total_said // 100, found
        # The graphs were read from this very build, so that nothing but the log's own rounding may be left.
        assert not same_build or max(abs(found.cache), abs(found.compute)) <= LOG_BYTES * found.request.slots, found


def is_same_build(library: Library) -> bool:
    return {graph.build for graph in catalogue().engine(EngineId.LLAMA_CPP).compute_graphs} == {library.build}


def test_weights(loaded: tuple[LoadedModel, Architecture], capsys: pytest.CaptureFixture[str]) -> None:
    model, architecture = loaded
    off = weights_of(architecture) - model.weight_bytes
    with capsys.disabled():
        print(f"\n{architecture.id} weights: {off:+d} bytes of {model.weight_bytes}")  # noqa: T201
    assert off == 0


@pytest.mark.parametrize("cache_type", GRID_TYPES)
def test_every_context_of_the_grid(
    library: Library,
    loaded: tuple[LoadedModel, Architecture],
    cache_type: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, architecture = loaded
    found = [residual(model, architecture, request) for request in grid(cache_type)]
    check(f"{architecture.id}, {cache_type}", found, same_build=is_same_build(library), capsys=capsys)


def test_contexts_off_the_grid(
    library: Library, loaded: tuple[LoadedModel, Architecture], capsys: pytest.CaptureFixture[str]
) -> None:
    model, architecture = loaded
    found = [residual(model, architecture, request) for request in elsewhere()]
    check(f"{architecture.id}, off the grid", found, same_build=is_same_build(library), capsys=capsys)
