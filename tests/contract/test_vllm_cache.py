"""Our pages, blocks and start-up bytes against the cache code of real vLLM releases, to the byte."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.contract.vllm_environment import INSTALLED, NEWEST, ask
from tests.planning.support import FLASH, FLASH_41, PRO, catalogue
from tests.planning.support_vllm_cache import ONE_DRAFT_LAYER, THREE_DRAFT_LAYERS, form, memory, pool_of
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import Architecture
from v4deploy.domain.versions import is_older
from v4deploy.planning.attention import shares_kv_stream
from v4deploy.planning.attention_vllm import NO_DRAFTING, Drafting, Load, PagedCache, Pool
from v4deploy.planning.weights_ranks import stages

pytestmark = pytest.mark.contract

K = 1024
SCRIPT = Path(__file__).parent / "ask_vllm.py"
VERSIONS = ("0.22.1", "0.25.1", "0.26.0", "0.28.0", "0.30.0", INSTALLED, NEWEST)
"""One of each layout in profiles/engines/vllm.yaml, the first release with V4.1, and the one that is planned for."""

SHARED_STREAM_SINCE = "0.30.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration that the engine is asked about."""

    architecture: Architecture
    arch: str
    context_tokens: int
    batch_tokens: int
    drafting: Drafting
    stages: int = 1

    def pools(self, version: str) -> list[Pool]:
        """Ours, one for each pipeline stage."""
        cut = list(stages(self.architecture.layers, self.stages))
        cut[-1] = range(cut[-1].start, self.architecture.layers + self.drafting.layers)
        return [
            pool_of(
                self.architecture,
                version,
                batch_tokens=self.batch_tokens,
                drafting=self.drafting,
                arch=self.arch,
                stage_layers=layers,
                stages=self.stages,
            )
            for layers in cut
        ]

    def needs(self, version: str) -> list[PagedCache]:
        return [found.need(Load(context_tokens=self.context_tokens)) for found in self.pools(version)]

    def question(self, version: str) -> dict[str, Any]:
        """For the engine, with two sizes to try: what we say is just enough, and one byte less."""
        stored = form(self.arch, self.architecture)
        enough = [need.startup_bytes for need in self.needs(version)]
        return {
            "ratios": self.architecture.compress_ratios,
            "sources": self.architecture.kv_source_layers,
            "head_dim": self.architecture.head_dim,
            "index_dim": self.architecture.index_dim,
            "window_tokens": self.architecture.window_tokens,
            "entry_bytes": stored.entry_bytes,
            "index_bytes": stored.index_bytes,
            "block_tokens": stored.block_tokens,
            "context_tokens": self.context_tokens,
            "batch_tokens": self.batch_tokens,
            "draft_layers": self.drafting.layers,
            "draft_tokens": self.drafting.tokens,
            "stages": self.stages,
            "pools": [enough, [size - 1 for size in enough]],
        }


def cases(version: str) -> tuple[Case, ...]:
    """A grid of contexts, batches, drafting and FP8 or FP4 index keys, and pipelines."""
    models: list[tuple[Architecture, str]] = [(FLASH, "sm_90"), (FLASH, "sm_100"), (PRO, "sm_90"), (PRO, "sm_100")]
    if not is_older(version, SHARED_STREAM_SINCE):
        models += [(FLASH_41, "sm_90"), (FLASH_41, "sm_100"), (FLASH_41, "sm_120")]
    grid = product(
        models, (4 * K, 100_000, 1024 * K), (2 * K, 8 * K), (NO_DRAFTING, ONE_DRAFT_LAYER, THREE_DRAFT_LAYERS)
    )
    whole = [
        Case(architecture=model, arch=arch, context_tokens=context, batch_tokens=batch, drafting=drafting)
        for (model, arch), context, batch, drafting in grid
    ]
    cut = [
        Case(
            architecture=model,
            arch=arch,
            context_tokens=128 * K,
            batch_tokens=4 * K,
            drafting=NO_DRAFTING,
            stages=count,
        )
        for (model, arch), count in product(models, (2, 3))
        # A stage of V4.1 has to begin with a layer that stores the stream which it reads.
        if not (shares_kv_stream(model) and count == 3) and version in {INSTALLED, NEWEST}
    ]
    return (*whole, *cut)


@cache
def answers(version: str) -> tuple[tuple[Case, dict[str, Any]], ...]:
    asked = cases(version)
    given = ask(version, SCRIPT, [case.question(version) for case in asked])
    return tuple(zip(asked, given, strict=True))


def test_every_layout_of_the_profile_and_its_version_are_asked_about() -> None:
    sinces = [layout.since for layout in memory().cache_layouts]
    owners = {max((s for s in sinces if not is_older(version, s)), key=sinces.index) for version in VERSIONS}
    assert owners == set(sinces)
    assert next(profile for profile in catalogue().engines if profile.id is EngineId.VLLM).version == NEWEST


@pytest.mark.parametrize("version", VERSIONS)
def test_pages_are_the_engines(version: str) -> None:
    for case, answer in answers(version):
        ours = [
            dict(Counter(str(page.size_bytes) for page in group.pages)) for group in case.pools(version)[0].cache.groups
        ]
        theirs = answer["groups"]
        assert sorted(map(sorted_items, ours)) == sorted(map(sorted_items, theirs)), (case, ours, theirs)


@pytest.mark.parametrize("version", VERSIONS)
def test_blocks_and_tokens_in_flight_are_the_engines(version: str) -> None:
    for case, answer in answers(version):
        assert {found.in_flight_tokens for found in case.pools(version)} == {answer["in_flight_tokens"]}, case
        assert {need.blocks - 1 for need in case.needs(version)} == {answer["blocks"]}, case
        assert [need.block_bytes for need in case.needs(version)] == answer["block_bytes"], case


@pytest.mark.parametrize("version", VERSIONS)
def test_the_engine_starts_with_our_bytes_and_not_with_one_less(version: str) -> None:
    for case, answer in answers(version):
        assert answer["accepts"] == [True, False], (case, case.needs(version))


def sorted_items(pages: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(pages.items())
