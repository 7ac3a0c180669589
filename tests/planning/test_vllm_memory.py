"""vLLM's memory: where V4.1's tables go, what is in use, what processes take, and what each number rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning.support import FLASH_41, amount, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import HOST_POOL_ID, Host
from v4deploy.domain.plan import Basis, FootprintRow, Plan, Request
from v4deploy.domain.units import GIB
from v4deploy.planning.weights_ranks import padded_expert_width

V41 = Request(model="v4.1-flash", engine=EngineId.VLLM)


def planned(hardware: str | Host, request: Request) -> Plan:
    decision = decide(request, machine(hardware) if isinstance(hardware, str) else hardware)
    assert decision.plan is not None, [verdict.reasons for verdict in decision.verdicts]
    return decision.plan


def rows(plan: Plan, what: str) -> list[FootprintRow]:
    return [row for row in plan.footprint if row.what.startswith(what)]


def with_free(host: Host, free_bytes: int) -> Host:
    pools = tuple(p if p.id == HOST_POOL_ID else replace(p, free=amount(free_bytes)) for p in host.pools)
    return replace(host, pools=pools)


def test_engram_tables_lie_in_host_memory_where_it_holds_them() -> None:
    plan = planned("8x b200 + 512GB", V41)
    assert not plan.chosen.engram_on_devices
    assert [(row.pool_id, round(row.size_bytes / GIB, 1)) for row in rows(plan, "Engram")] == [(HOST_POOL_ID, 188.8)]


@pytest.mark.parametrize("hardware", ["8x b200", "8x b200 + 128GB", "8x h200 + 64GB"])
def test_engram_tables_are_divided_over_devices_where_host_memory_is_short_or_unknown(hardware: str) -> None:
    plan = planned(hardware, V41)
    assert plan.chosen.engram_on_devices
    tables = rows(plan, "Engram")
    assert len(tables) == 8
    assert HOST_POOL_ID not in {row.pool_id for row in tables}
    # 188.8 GiB over eight ranks, as the published 72.4 GiB a rank with the tables and 48.8 without them.
    assert {round(row.size_bytes / GIB, 1) for row in tables} == {23.6}


def test_engram_tables_go_nowhere_where_neither_holds_them() -> None:
    assert decide(V41, machine("4x h100 + 128GB")).plan is None


@settings(max_examples=20, deadline=None)
@given(free_gib=st.integers(45, 79))
def test_a_budget_is_a_share_of_whole_percent_that_is_free(free_gib: int) -> None:
    host = with_free(machine("8x h100 + 256GB"), free_gib * GIB)
    for use in planned(host, Request(model="v4-flash", engine=EngineId.VLLM)).pools:
        if use.pool_id == HOST_POOL_ID:
            continue
        total = host.pool(use.pool_id).total.size_bytes
        assert total is not None
        assert use.budget_bytes is not None
        percent = -(-use.budget_bytes * 100 // total)
        assert use.budget_bytes == total * percent // 100
        assert use.budget_bytes <= free_gib * GIB
        assert percent == 92 or total * (percent + 1) // 100 > free_gib * GIB


@pytest.mark.parametrize(("hardware", "percent"), [("8x h200 + 1TB", 92), ("8x mi355x + 1TB", 90), ("8x 910b3", 90)])
def test_the_most_that_is_used_is_the_recipes(hardware: str, percent: int) -> None:
    plan = planned(hardware, Request(model="v4-flash"))
    use = next(use for use in plan.pools if use.pool_id != HOST_POOL_ID)
    total = plan.host.pool(use.pool_id).total.size_bytes
    assert total is not None
    assert use.budget_bytes == total * percent // 100


def test_worker_processes_are_counted_in_host_memory_that_is_known() -> None:
    (row,) = rows(planned("8x h200 + 64GB", Request(model="v4-pro")), "8 worker processes")
    assert (row.pool_id, row.basis) == (HOST_POOL_ID, Basis.ASSUMED)
    assert decide(Request(model="v4-pro", engine=EngineId.VLLM), machine("8x h200 + 16GB")).plan is None


def test_worker_processes_that_are_not_counted_are_mentioned() -> None:
    plan = planned("8x h200", Request(model="v4-pro"))
    assert not [row for row in plan.footprint if row.pool_id == HOST_POOL_ID]
    assert {"plan.host-memory-not-counted", "host.memory-not-given"} <= {finding.id for finding in plan.findings}
    known = {finding.id for finding in planned("8x h200 + 1TB", Request(model="v4-pro")).findings}
    assert not {"plan.host-memory-not-counted", "host.memory-not-given"} & known


def test_the_padding_of_rocm_kernels_is_the_larger_one_and_an_assumption() -> None:
    assert padded_expert_width(FLASH_41, 8, 256) == 512
    experts = rows(planned("8x mi355x + 1TB", V41), "routed experts")
    assert {row.basis for row in experts} == {Basis.ASSUMED}
    # 268.95 GiB of experts padded from 288 to 512 of their width, over eight ranks.
    assert experts[0].size_bytes / GIB == pytest.approx(268.95 / 8 * 512 / 288, rel=0.002)
    assert {row.basis for row in rows(planned("8x mi355x", Request(model="v4-flash")), "routed experts")} == {
        Basis.FILE_SIZES
    }


MEASURED, ASSUMED = Basis.MEASURED, Basis.ASSUMED


@pytest.mark.parametrize(
    ("model", "hardware", "surplus", "activations"),
    [
        ("v4-flash", "4x h100", MEASURED, MEASURED),  # the published run's shape and layout
        ("v4-flash", "8x h200", MEASURED, ASSUMED),
        ("v4-pro", "8x h200", MEASURED, ASSUMED),
        ("v4-flash", "8x mi355x", ASSUMED, ASSUMED),
        ("v4-flash", "8x 910b3", ASSUMED, ASSUMED),
        ("v4-flash", "4x 950dt", ASSUMED, ASSUMED),
    ],
)
def test_measured_is_what_was_measured_there(model: str, hardware: str, surplus: Basis, activations: Basis) -> None:
    plan = planned(hardware, Request(model=model))
    assert {row.basis for row in rows(plan, "loading surplus")} == {surplus}
    assert {row.basis for row in rows(plan, "peak activations")} == {activations}
    assert {row.basis for row in rows(plan, "captured graphs")} == {activations}
    assert all(row.note for row in plan.footprint if row.basis is ASSUMED and "context" not in row.what)


@pytest.mark.parametrize(
    ("model", "hardware", "quant", "basis"),
    [
        ("v4-flash", "4x h100", "native", Basis.FILE_SIZES),
        ("v4-flash", "4x b200", "nvfp4", ASSUMED),  # its dense part is not the original's file by file
        ("v4-flash", "8x 910b3", "w8a8", ASSUMED),
        ("v4.1-flash", "8x b200 + 1TB", "native", ASSUMED),  # the catalogue derives this release's size
        ("v4.1-flash-0910", "8x b200 + 1TB", "native", Basis.FILE_SIZES),
        ("v4-flash", "m3-ultra 256GB", "UD-Q8_K_XL", Basis.FILE_SIZES),
        ("v4-flash", "m3-ultra 256GB", "UD-IQ3_S", ASSUMED),
    ],
)
def test_weights_rest_on_file_sizes_where_somebody_listed_the_files(
    model: str, hardware: str, quant: str, basis: Basis
) -> None:
    plan = planned(hardware, Request(model=model, quant=quant))
    weights = [row for row in plan.footprint if row.what.startswith(("weights", "routed experts", "other weights"))]
    assert weights
    assert {row.basis for row in weights} == {basis}


@pytest.mark.parametrize(
    ("hardware", "buffer", "context"),
    [
        ("rtx-4090 + 256GB", ASSUMED, MEASURED),
        ("mi325x + 512GB", ASSUMED, ASSUMED),
        ("m3-ultra 256GB", ASSUMED, None),
        ("cpu 256GB", Basis.FORMULA, None),
    ],
)
def test_llama_cpps_buffers_are_known_of_a_cpu_build(hardware: str, buffer: Basis, context: Basis | None) -> None:
    plan = planned(hardware, Request(model="v4-flash", engine=EngineId.LLAMA_CPP))
    assert {row.basis for row in rows(plan, "compute buffer")} == {buffer}
    assert {row.basis for row in rows(plan, "device context")} == ({context} if context else set())
