"""Which layouts are valid on which devices, which rule forbids the others, and how they are typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.support import amount, cards, catalogue, decide, machine
from v4deploy.domain.engine import EngineId
from v4deploy.domain.errors import UsageError
from v4deploy.domain.finding import Finding
from v4deploy.domain.hardware import Host, Link, LinkKind, PoolKind
from v4deploy.domain.layout_words import layout_words
from v4deploy.domain.plan import Layout, Request
from v4deploy.domain.units import GIB
from v4deploy.planning.choose import case_for, find_wanted
from v4deploy.planning.layout_wish import parse_layout
from v4deploy.planning.rank_layouts import every_layout, offered_layouts


def offers(host: Host, model: str, engine: EngineId = EngineId.VLLM) -> dict[str, Finding | None]:
    case = case_for(engine, host, catalogue(), find_wanted(Request(model=model), catalogue()))
    return {layout_words(offer.layout): offer.obstacle for offer in every_layout(host.devices, case)}


def preferred(host: Host, model: str, *, replicate: bool) -> list[str]:
    case = case_for(EngineId.VLLM, host, catalogue(), find_wanted(Request(model=model), catalogue()))
    return [layout_words(layout) for layout in offered_layouts(host.devices, case, replicate=replicate)]


def test_eight_devices_offer_every_division() -> None:
    found = offers(machine("8x h200"), "v4-flash")
    valid = {words for words, obstacle in found.items() if obstacle is None}
    assert {"TP8 + EP", "TP8", "TP4 + DP2 + EP", "TP2 + DP4 + EP", "DP8 + EP", "TP4 + EP", "1 device"} <= valid
    assert found["TP3 + EP"] is not None
    assert found["TP3 + EP"].id == "plan.heads-not-divisible"


def test_pipelines_come_last_and_are_not_drafted() -> None:
    order = preferred(machine("8x h200"), "v4-flash", replicate=False)
    assert order.index("TP4 + PP2 + EP") > order.index("DP8 + EP")
    plan = decide(Request(model="v4-flash", layout="tp4+pp2"), machine("8x h200 + 1TB")).plan
    assert plan is not None
    assert layout_words(plan.chosen.layout) in {"TP4 + PP2 + EP", "TP4 + PP2"}
    assert not plan.chosen.use_draft
    assert "plan.layout-unpublished" in {finding.id for finding in plan.findings}


def test_one_sequence_prefers_tensor_parallel_and_many_prefer_replicas() -> None:
    assert preferred(machine("8x h200"), "v4-flash", replicate=False)[0] == "TP8 + EP"
    assert preferred(machine("8x h200"), "v4-flash", replicate=True)[0] == "DP8 + EP"
    assert preferred(machine("8x mi355x"), "v4-flash", replicate=False)[0] == "TP8"


def test_what_uses_an_odd_number_of_devices_comes_after_what_recipes_show() -> None:
    order = preferred(machine("6x h100"), "v4-flash", replicate=False)
    assert order[0] == "TP4 + EP"
    assert order.index("TP2 + DP3 + EP") > order.index("DP4 + EP")
    assert "DP6 + EP" in order


def test_slices_of_an_expert_are_whole_groups_of_scales() -> None:
    found = offers(machine("8x b200"), "v4.1-flash")
    assert found["TP8"] is None  # 2304 / 8 = 288 = 9 groups of 32
    narrow = cards((200 * GIB,) * 16, arch="sm_100", memory_bytes=512 * GIB)
    sixteen = offers(narrow, "v4.1-flash")["TP16"]
    assert sixteen is not None
    assert sixteen.id == "plan.heads-not-divisible"  # eight output groups, before anything about experts


@pytest.mark.parametrize(("kind", "word"), [(PoolKind.SLICE, "plan.partitioned-devices"), (PoolKind.DEDICATED, None)])
def test_partitions_share_nothing(kind: PoolKind, word: str | None) -> None:
    host = cards((70 * GIB,) * 4, arch="sm_90", memory_bytes=64 * GIB)
    host = replace(host, pools=tuple(p if p.id == "host" else replace(p, kind=kind) for p in host.pools))
    obstacle = offers(host, "v4-flash")["TP4 + EP"]
    assert (None if obstacle is None else obstacle.id) == word


def test_unlike_devices_are_counted_alone() -> None:
    found = offers(machine("2x h100 + 2x h200"), "v4-flash")
    assert found["TP2 + EP"] is None
    unlike = found["TP4 + EP"]
    assert unlike is not None
    assert unlike.id == "plan.unlike-devices"
    assert "llama.cpp" in (unlike.fix or "")


def test_documented_layouts_are_the_only_ones_where_there_are_any() -> None:
    found = offers(machine("4x ascend-910b3"), "v4-flash", EngineId.MINDIE)
    assert set(found) == {"TP8 + EP"}
    assert found["TP8 + EP"] is not None
    assert found["TP8 + EP"].id == "plan.needs-more-devices"


def linked(kind: LinkKind, *, peer_access: bool | None = None) -> Host:
    host = machine("4x h100 + 256GB")
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    links = tuple(
        Link(first_index=a, second_index=b, kind=kind, peer_access=peer_access, source="test") for a, b in pairs
    )
    return replace(host, links=links)


@pytest.mark.parametrize(
    ("kind", "peer_access", "words"),
    [
        (LinkKind.NVSWITCH, True, None),
        (LinkKind.SYSTEM, True, "over PCIe"),
        (LinkKind.HOST_BRIDGE, False, "cannot read each other's memory"),
    ],
)
def test_links_between_ranks_are_told(kind: LinkKind, peer_access: bool, words: str | None) -> None:  # noqa: FBT001
    plan = decide(Request(model="v4-flash"), linked(kind, peer_access=peer_access)).plan
    assert plan is not None
    found = [finding.summary for finding in plan.findings if finding.id == "plan.slow-links"]
    assert [words in summary for summary in found] == ([] if words is None else [True])  # type: ignore[operator]


def test_a_layout_that_no_recipe_shows_says_so() -> None:
    plan = decide(Request(model="v4-flash", layout="tp2+dp4"), machine("8x h200 + 1TB")).plan
    assert plan is not None
    assert layout_words(plan.chosen.layout) == "TP2 + DP4 + EP"
    assert "plan.layout-unpublished" in {finding.id for finding in plan.findings}


layouts = st.builds(
    Layout,
    device_indices=st.integers(0, 16).map(lambda count: tuple(range(count))),
    tensor_parallel=st.integers(1, 16),
    data_parallel=st.integers(1, 16),
    pipeline_parallel=st.integers(1, 4),
    expert_parallel=st.booleans(),
    host_expert_layers=st.integers(0, 3),
)


@given(layout=layouts)
def test_a_layout_is_found_again_by_the_words_it_is_printed_in(layout: Layout) -> None:
    assert parse_layout(layout_words(layout)).admits(layout)


@pytest.mark.parametrize(
    ("text", "admitted", "refused"),
    [
        ("tp8", Layout(device_indices=(0,) * 8, tensor_parallel=8), Layout(device_indices=(0,) * 8, data_parallel=8)),
        (
            "TP4+EP",
            Layout(device_indices=(0,) * 4, tensor_parallel=4, expert_parallel=True),
            Layout(device_indices=(0,) * 4, tensor_parallel=4),
        ),
        ("cpu", Layout(device_indices=()), Layout(device_indices=(0,))),
        ("offload", Layout(device_indices=(0,), host_expert_layers=3), Layout(device_indices=(0,))),
        ("2 devices", Layout(device_indices=(0, 1)), Layout(device_indices=(0,))),
        ("1-gpu", Layout(device_indices=(0,)), Layout(device_indices=(0, 1))),
    ],
)
def test_what_people_type(text: str, admitted: Layout, refused: Layout) -> None:
    assert parse_layout(text).admits(admitted)
    assert not parse_layout(text).admits(refused)


@pytest.mark.parametrize("text", ["", "tp", "8", "tpx8", "vllm", "tp8 please", "+"])
def test_what_is_no_layout(text: str) -> None:
    with pytest.raises(UsageError, match="is no layout"):
        parse_layout(text)


def test_a_pinned_layout_that_cannot_be_names_its_rule() -> None:
    host = machine("8x h200 + 1TB")
    for layout, reason in (("dp16", "plan.needs-more-devices"), ("tp3", "plan.heads-not-divisible")):
        decision = decide(Request(model="v4-flash", engine=EngineId.VLLM, quant="native", layout=layout), host)
        assert decision.plan is None
        assert reason in {finding.id for finding in decision.verdicts[0].reasons}


def test_memory_of_unknown_size_is_no_reason_to_refuse_a_layout() -> None:
    host = cards((None,) * 4, arch="sm_90", memory_bytes=64 * GIB)
    assert offers(host, "v4-flash")["TP4 + EP"] is None
    assert amount(None).size_bytes is None
