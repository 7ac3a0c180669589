"""The sums that `plan --explain` shows for llama.cpp and Ollama come out at the sizes beside them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.planning.support import catalogue, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.model import FileRole, WeightFile
from v4deploy.domain.plan import FootprintPart, FootprintRow, Plan, Request
from v4deploy.planning import remarks, split_sums
from v4deploy.planning.case import Case
from v4deploy.planning.judge import judge

CARD_AND_HOST = "1x rtx-4090 + 128GB"


def planned(hardware: str, *, engine: EngineId = EngineId.LLAMA_CPP) -> Plan:
    plan = decide(Request(model="v4-flash", engine=engine), machine(hardware)).plan
    assert plan is not None
    return plan


def worked_out(arithmetic: str) -> int:
    """The sum in the words, worked out: numbers, `x`, `/`, `+` and brackets; a comma and words end it."""
    words = re.sub(r"(?<=\d),(?=\d{3})", "", arithmetic).split(",", maxsplit=1)[0]
    return int(eval(re.sub(r"[A-Za-z]+", lambda word: "*" if word[0] == "x" else "", words)))  # noqa: S307


def sums(rows: tuple[FootprintRow, ...], *starts: str) -> list[FootprintRow]:
    return [row for row in rows if row.what.startswith(starts)]


@pytest.mark.parametrize("engine", [EngineId.LLAMA_CPP, EngineId.OLLAMA])
@pytest.mark.parametrize("hardware", [CARD_AND_HOST, "8x rtx-4090 + 512GB", "cpu 256GB"])
def test_each_sum_is_its_rows_size(hardware: str, engine: EngineId) -> None:
    rows = planned(hardware, engine=engine).footprint
    exact = sums(rows, "routed experts", "KV cache", "server process")
    assert {row.part for row in exact} >= {FootprintPart.KV_CACHE, FootprintPart.OVERHEAD}
    for row in exact:
        assert row.arithmetic is not None
        assert worked_out(row.arithmetic) == row.size_bytes, row
    for row in sums(rows, "dense weights"):
        assert row.arithmetic is not None
        # Every layer is rounded up to a byte.
        assert 0 <= row.size_bytes - worked_out(row.arithmetic) <= catalogue().models[0].architecture.layers, row


def test_layers_of_a_dynamic_quant_are_summed_by_size() -> None:
    assert split_sums.experts((5, 5, 7_000, 5)) == "3 layers x 5 B + 1 layer x 7,000 B"


def test_every_row_but_a_single_figure_has_a_sum() -> None:
    rows = planned(CARD_AND_HOST).footprint
    assert [row.what for row in rows if row.arithmetic is None] == ["device context and pools"]


@pytest.mark.parametrize(
    ("role", "path", "found"),
    [
        (FileRole.DRAFT, "dspark-x.gguf", "plan.draft-file-not-used"),
        (FileRole.MMPROJ, "mmproj-x.gguf", "plan.image-encoder-not-used"),
    ],
)
@pytest.mark.parametrize("engine", [EngineId.LLAMA_CPP, EngineId.OLLAMA])
def test_files_that_a_plan_leaves_out_are_named(role: FileRole, path: str, found: str, engine: EngineId) -> None:
    plan = planned("8x rtx-4090 + 512GB", engine=engine)
    model = next(model for model in catalogue().models if model.id == "v4-flash")
    profile = catalogue().engine(engine)
    case = Case(model=model, release=plan.release, profile=profile, engine_version=plan.engine_version, host=plan.host)
    beside = (WeightFile(path=path, role=role, size_bytes=2_000_000_000), WeightFile(path="other.gguf", role=role))
    candidate = replace(plan.chosen, checkpoint=replace(plan.chosen.checkpoint, side_files=beside))
    said = remarks.of_plan(judge(candidate, case), (), plan.request, case)
    finding = next(finding for finding in said if finding.id == found)
    assert f"`{path}` (2.0 GB) and 1 more" in finding.summary
    bare = replace(candidate, checkpoint=replace(candidate.checkpoint, side_files=()))
    assert not any(finding.id == found for finding in remarks.of_plan(judge(bare, case), (), plan.request, case))
