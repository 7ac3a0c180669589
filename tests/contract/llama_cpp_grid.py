"""llama.cpp's own weights, cache and compute buffer beside ours, and the table of docs/llama-cpp-memory.md.

A file of full size without weights is written for each model, and every context of a grid is made on it, in as many
processes as there are processors. `make llama-residuals` prints the table.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import itertools
import multiprocessing
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

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
from v4deploy.shapes.write import write_sparse

MODELS = ("v4-flash", "v4-pro")

K = 1024
CONTEXTS = tuple(tokens * K for tokens in (4, 8, 16, 32, 64, 128, 256, 512, 1024))
SLOTS = (1, 2, 4, 8)
BATCHES = (128, 256, 512, 1024, 2048, 4096)
GRID_TYPES = ("f16", "q8_0", "q4_0")
ELSEWHERE = 120
"""Contexts off the grid, of any length, batch, number of slots and cache type; the same ones every time."""

_AT_ONCE = 4
"""Contexts that a process takes from the list at a time."""

_TRIM_THRESHOLD, _MOST_MAPPINGS = -1, -4
"""M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """All tensors of a file: ours, and what the engine says of the loaded file."""

    ours: int
    said: int


def architecture_of(model: str) -> Architecture:
    return replace(next(found.architecture for found in catalogue().models if found.id == model), id=model)


def weights_of(architecture: Architecture) -> int:
    return dense_bytes(architecture) + architecture.layers * architecture.routed_experts * expert_bytes(architecture)


def grid(cache_type: str) -> tuple[ContextRequest, ...]:
    return tuple(
        ContextRequest(context_tokens=context, micro_batch_tokens=batch, slots=slots, cache_type=cache_type)
        for context, slots, batch in itertools.product(CONTEXTS, SLOTS, BATCHES)
    )


def elsewhere() -> tuple[ContextRequest, ...]:
    chance = random.Random(4)
    return tuple(
        ContextRequest(
            context_tokens=int(2 ** chance.uniform(10, 20)),
            micro_batch_tokens=int(2 ** chance.uniform(5, 12)),
            slots=chance.randint(1, 16),
            cache_type=chance.choice(sorted(CACHE_TYPES)),
        )
        for _ in range(ELSEWHERE)
    )


class Askers:
    """Processes that each have one model loaded."""

    def __init__(self, path: Path, model: str) -> None:
        self._pool = ProcessPoolExecutor(
            max_workers=os.cpu_count(),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_load,
            initargs=(path, model),
        )

    def weights(self) -> Weights:
        """Of the file."""
        return self._pool.submit(_weights).result()

    def residuals(self, requests: Sequence[ContextRequest]) -> list[Residual]:
        """One a request, in their order."""
        return list(self._pool.map(_residual, requests, chunksize=_AT_ONCE))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def write_shape(directory: Path, model: str) -> Path:
    """A file of full size, as the product writes it for a rehearsal."""
    path = directory / f"{model}.gguf"
    write_sparse(path, architecture_of(model), expert_type="MXFP4", dense_type="Q8_0")
    return path


class _Loaded(NamedTuple):
    model: LoadedModel
    architecture: Architecture
    open_until_exit: ExitStack


_LOADED: list[_Loaded] = []
"""The one model of a process of `Askers`."""


def _load(path: Path, model: str) -> None:
    _keep_freed_memory()
    stack = ExitStack()
    _LOADED.append(_Loaded(stack.enter_context(Library().model(path)), architecture_of(model), stack))


def _keep_freed_memory() -> None:
    """Have glibc keep what one context gave back for the next: the pages of a million cells are otherwise mapped anew
    each time, which takes half of the suite's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MOST_MAPPINGS, 0)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def _weights() -> Weights:
    model, architecture, _ = _LOADED[0]
    return Weights(ours=weights_of(architecture), said=model.weight_bytes)


def _residual(request: ContextRequest) -> Residual:
    model, architecture, _ = _LOADED[0]
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


HEAD = (
    "| model | cache | contexts | what | worst residual, MiB | of, MiB | | at |",
    "| --- | --- | ---: | --- | ---: | ---: | ---: | --- |",
)


def weight_row(model: str, found: Weights) -> str:
    off = found.ours - found.said
    return f"| {model} | | | weights | {off / MIB:+.3f} | {found.said / MIB:,.2f} | {off / found.said:+.4%} | |"


def rows(model: str, cache_type: str, residuals: Sequence[Residual]) -> Iterator[str]:
    """The worst of some contexts, by their share of the engine's own figure."""
    start = f"| {model} | {cache_type} | {len(residuals)}"
    yield f"{start} | KV cache | {_worst(residuals, lambda found: (found.cache, found.cache_said))} |"
    yield f"{start} | compute buffer | {_worst(residuals, lambda found: (found.compute, found.compute_said))} |"
    yield f"{start} | total | {_worst(residuals, lambda found: (found.total, found.total_said))} |"


def _worst(residuals: Sequence[Residual], of: Callable[[Residual], tuple[int, int]]) -> str:
    worst = max(residuals, key=lambda found: abs(of(found)[0] / of(found)[1]))
    off, said = of(worst)
    where = worst.request
    at = f"{where.context_tokens:,} tokens x {where.slots}, batch {where.micro_batch_tokens:,}"
    if len({found.request.cache_type for found in residuals}) > 1:
        at += f", {where.cache_type}"
    return f"{off / MIB:+.3f} | {said / MIB:,.2f} | {off / said:+.4%} | {at}"


def table() -> Iterator[str]:
    """The whole table, as markdown."""
    yield f"llama.cpp build {Library().build}, {dt.datetime.now(dt.UTC).date()}"
    yield ""
    yield from HEAD
    for model in MODELS:
        with tempfile.TemporaryDirectory() as directory:
            askers = Askers(write_shape(Path(directory), model), model)
            yield weight_row(model, askers.weights())
            for cache_type in GRID_TYPES:
                yield from rows(model, cache_type, askers.residuals(grid(cache_type)))
            yield from rows(model, "all nine", askers.residuals(elsewhere()))
            askers.close()


if __name__ == "__main__":
    for line in table():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
