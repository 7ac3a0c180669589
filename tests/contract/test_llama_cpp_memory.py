"""Weights, cache and compute buffer of every context on a grid, as llama.cpp itself works them out, beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.contract.llama_cpp_grid import (
    GRID_TYPES,
    HEAD,
    MODELS,
    Askers,
    Residual,
    elsewhere,
    grid,
    rows,
    weight_row,
    write_shape,
)
from tests.planning.support import catalogue
from tools.llama_cpp.library import Library
from v4deploy.domain.engine import EngineId
from v4deploy.domain.units import MIB

pytestmark = [pytest.mark.engine, pytest.mark.contract]

LOG_BYTES = MIB // 50
"""The engine prints hundredths of a MiB, seven for the cache."""


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def askers(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Askers]:
    path = write_shape(tmp_path_factory.mktemp("shapes"), model)
    found = Askers(path, model)
    yield found
    found.close()
    path.unlink()


@pytest.fixture(scope="module")
def same_build() -> bool:
    """Whether the graphs were read from this very build, so that nothing but the log's own rounding may be left."""
    return {graph.build for graph in catalogue().engine(EngineId.LLAMA_CPP).compute_graphs} == {Library().build}


def check(residuals: Sequence[Residual], *, same_build: bool) -> None:
    for found in residuals:
        assert abs(found.cache) <= max(MIB, found.cache_said // 1000), found
        assert abs(found.compute) <= found.compute_said // 20, found
        assert abs(found.total) <= found.total_said // 100, found
        assert not same_build or max(abs(found.cache), abs(found.compute)) <= LOG_BYTES * found.request.slots, found


def show(lines: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 - the table is what this suite is for


def test_weights(model: str, askers: Askers, capsys: pytest.CaptureFixture[str]) -> None:
    found = askers.weights()
    show([*HEAD, weight_row(model, found)], capsys)
    assert found.ours == found.said


@pytest.mark.parametrize("cache_type", GRID_TYPES)
def test_every_context_of_the_grid(
    model: str, askers: Askers, cache_type: str, capsys: pytest.CaptureFixture[str], *, same_build: bool
) -> None:
    found = askers.residuals(grid(cache_type))
    show([*rows(model, cache_type, found)], capsys)
    check(found, same_build=same_build)


def test_contexts_off_the_grid(
    model: str, askers: Askers, capsys: pytest.CaptureFixture[str], *, same_build: bool
) -> None:
    found = askers.residuals(elsewhere())
    show([*rows(model, "all nine", found)], capsys)
    check(found, same_build=same_build)
