"""torch_npu and CANN beside vLLM-Ascend: each check fires on the fault and is silent without it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_checks import ascend, cuda, machine, run, subject
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.hardware import Device
from v4deploy.domain.surroundings import Software

NPUS = ascend(8, "ascend-a2")


def beside(
    packages: dict[str, str | None],
    plugin: str | None = "0.23.0",
    devices: tuple[Device, ...] = NPUS,
    cann: str | None = None,
) -> Subject:
    software = tuple(Software(name=name, version=version, path="/v") for name, version in packages.items())
    npus = tuple(replace(device, compute_api_version=cann) for device in devices)
    found = machine(*npus, engines={EngineId.MINDIE: plugin, EngineId.VLLM: plugin})
    return subject(replace(found, software=software))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (beside({"torch": "2.10.0+cpu", "torch_npu": "2.10.0.post4"}), None),
        (beside({"torch": "2.10.0"}), "torch is here without torch_npu"),
        (beside({"torch": "2.10.0", "torch_npu": "2.9.0"}), "torch_npu 2.9.0 does not go with torch 2.10.0"),
        (beside({"torch": "2.9.0", "torch_npu": "2.9.0"}), "is made for torch_npu 2.10.0, and 2.9.0 is here"),
        (beside({"torch_npu": "2.9.0"}), "is made for torch_npu 2.10.0, and 2.9.0 is here"),
        (beside({"torch": "2.11.0", "torch_npu": "2.11.0"}, plugin="0.31.0rc1"), None),
        (beside({"torch": "2.10.0", "torch_npu": "unknown"}), None),
        (beside({"torch": "2.10.0", "torch_npu": None}), "torch is here without torch_npu"),
        (beside({}), None),
        (beside({"torch": "2.9.0"}, plugin=None), None),
        (beside({"torch": "2.9.0"}, plugin="main"), None),
        (beside({"torch": "2.9.0"}, devices=cuda(1, "sm_90")), None),
    ],
)
def test_torch_npu_belongs_to_torch_and_to_the_plugin(given: Subject, words: str | None) -> None:
    found = run("engine.mindie.torch-npu", given)
    assert [words in finding.summary for finding in found if words] == ([True] if words else [])
    assert bool(found) is (words is not None)


@pytest.mark.parametrize(
    ("plugin", "cann", "fires"),
    [
        ("0.23.0", "9.0.0", True),
        ("0.23.0", "9.1.0", False),
        ("0.23.0", "9.1.0.B150", False),
        ("0.20.2rc1", "9.1.0", True),
        ("0.20.2rc1", "8.5.1", True),
        ("0.25.1rc1", "9.1.0", False),
        ("0.23.0", None, False),
        ("0.23.0", "unknown", False),
        (None, "9.0.0", False),
    ],
)
def test_cann_belongs_to_the_plugin(plugin: str | None, cann: str | None, *, fires: bool) -> None:
    assert bool(run("engine.mindie.cann", beside({}, plugin=plugin, cann=cann))) is fires
