"""Whether the model fits, and what a target needs: one finding a question, and none asked in vain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support_checks import cuda, disk, machine, planned, rocm, run, subject
from v4deploy.checks.subject import Subject
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Finding, Severity
from v4deploy.domain.hardware import Host
from v4deploy.domain.units import GB

ASKED_OF_A_TARGET = ("plan.target.driver", "plan.target.engine", "plan.target.image", "plan.target.disk")


def for_target(hardware: str, found: Host | None = None, **more: Any) -> Subject:
    return subject(found, target=planned(hardware), **more)


def test_what_fits_here_is_told_with_the_memory_of_each_pool() -> None:
    (found,) = run("plan.fits", subject(here=planned("8x h200 + 2TB")))
    assert (found.id, found.severity) == ("plan.fits", Severity.OK)
    assert "native in vLLM" in found.summary
    assert sum("H200" in entry.source for entry in found.evidence) == 8


def test_a_processor_alone_is_a_warning() -> None:
    (found,) = run("plan.fits", subject(here=planned("cpu 256GB")))
    assert (found.id, found.severity) == ("plan.cpu-only", Severity.WARN)
    assert "tokens a second" in (found.why or "")


def test_what_does_not_fit_here_is_a_warning_with_the_nearest_misses() -> None:
    (found,) = run("plan.fits", subject(here=planned("cpu 16GB")))
    assert (found.id, found.severity) == ("plan.nothing-fits", Severity.WARN)
    assert "GiB missing" in (found.evidence[0].value or "")
    assert 1 <= len(found.evidence) <= 3


@pytest.mark.parametrize("check", ["plan.fits", "plan.target.fits", *ASKED_OF_A_TARGET])
def test_nobody_asked_nothing_told(check: str) -> None:
    assert run(check, subject()) == ()


def test_a_target_that_cannot_run_the_model_fails_and_says_what_would_fit() -> None:
    target = planned("1x rtx-4090 + 16GB")
    advice = Finding(id="plan.more-devices", severity=Severity.INFO, summary="with 4x GeForce RTX 4090 it fits")
    (found,) = run("plan.target.fits", subject(target=replace(target, advice=(advice,))))
    assert (found.id, found.severity) == ("plan.target.does-not-fit", Severity.FAIL)
    assert found.fix == advice.summary


@pytest.mark.parametrize("check", ASKED_OF_A_TARGET)
def test_nothing_more_is_asked_about_a_target_that_does_not_fit(check: str) -> None:
    (found,) = run(check, for_target("1x rtx-4090 + 16GB"))
    assert (found.id, found.severity) == (check, Severity.SKIP)
    assert "plan.target.does-not-fit" in (found.why or "")


@pytest.mark.parametrize(
    ("hardware", "found", "severity", "words"),
    [
        ("4x h200", None, Severity.INFO, "vLLM needs driver 580 or newer there"),
        ("4x h200", machine(*cuda(4, "sm_90", driver="570.1")), Severity.WARN, "570.1 is here"),
        ("4x h200", machine(*cuda(4, "sm_90", driver="580.95.05")), Severity.OK, "580.95.05 is here"),
        ("8x mi355x", None, Severity.INFO, "vLLM needs ROCm 7 or newer there"),
        ("8x mi355x", machine(*rocm(8, "gfx950", version="6.4")), Severity.WARN, "6.4 is here"),
    ],
)
def test_a_target_needs_a_driver(hardware: str, found: Host | None, severity: Severity, words: str) -> None:
    (finding,) = run("plan.target.driver", for_target(hardware, found))
    assert finding.severity is severity
    assert words in finding.summary


def test_no_driver_is_made_up_for_engines_that_name_none() -> None:
    assert run("plan.target.driver", for_target("m3-ultra 256GB")) == ()


@pytest.mark.parametrize(
    ("version", "severity", "words"),
    [
        (None, Severity.INFO, "vLLM 0.25.0 or newer is needed; none is installed here"),
        ("0.33.0", Severity.OK, "0.33.0 is installed here"),
        ("0.22.0", Severity.WARN, "0.22.0 is installed here"),
        ("main", Severity.INFO, "none is installed here"),
    ],
)
def test_a_target_needs_an_engine(version: str | None, severity: Severity, words: str) -> None:
    here = machine(engines={EngineId.VLLM: version} if version else {})
    (found,) = run("plan.target.engine", for_target("4x h200", here))
    assert found.severity is severity
    assert words in found.summary


@pytest.mark.parametrize(
    ("hardware", "image"),
    [
        ("4x h200", "vllm/vllm-openai:v0.33.0"),
        ("8x mi355x", "vllm/vllm-openai-rocm:v0.33.0"),
        ("8x ascend-910b3", "quay.io/ascend/vllm-ascend:v0.25.1rc1"),
    ],
)
def test_a_target_gets_the_image_of_its_devices(hardware: str, image: str) -> None:
    (found,) = run("plan.target.image", for_target(hardware))
    assert found.summary.endswith(image)


def test_a_mac_gets_no_image() -> None:
    assert run("plan.target.image", for_target("m3-ultra 256GB")) == ()


@pytest.mark.parametrize(("free_bytes", "severity"), [(200 * GB, Severity.OK), (100 * GB, Severity.WARN)])
def test_the_weights_of_a_target_need_room_here(free_bytes: int, severity: Severity) -> None:
    here = machine(disks=(disk("/srv/weights", free_bytes=free_bytes),))
    given = for_target("4x h200", here)
    (found,) = run("plan.target.disk", given)
    assert (found.id, found.severity) == ("plan.target.disk", severity)
    assert "166.9 GB" in found.summary
    # The same question about this machine's own weights is not asked then.
    assert run("storage.room-for-weights", given) == ()
