"""Golden files of the targets that more than one engine has, and what they owe beyond their syntax."""

from __future__ import annotations

import plistlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from tests.support_golden import ROOT, assert_golden, shipped_profile, shipped_templates
from tests.support_plans import (
    FLASH_8X_H200,
    FLASH_CPU,
    FLASH_M3_ULTRA,
    FLASH_OFFLOAD,
    FLASH_OLLAMA,
    FLASH_OLLAMA_MAC,
    WEIGHTS_DIR,
)
from tests.support_vllm import FLASH_MI355X, V41_B300
from v4deploy.domain.artefact import ArtefactSet
from v4deploy.domain.engine import EngineId, LaunchOptions
from v4deploy.domain.finding import Severity
from v4deploy.domain.hardware import OperatingSystem
from v4deploy.domain.plan import Plan
from v4deploy.domain.speed import SpeedBasis, SpeedFigure
from v4deploy.engines import engine_module
from v4deploy.render.render import render

OPTIONS = LaunchOptions(weights_dir=WEIGHTS_DIR)
KEY = replace(OPTIONS, api_key_file="/etc/v4deploy/api key")
ODD = replace(OPTIONS, weights_dir="/srv/my models/100% $HOME <&--", served_name='a "b" <c>')
TEMPLATES = shipped_templates()

CASES: tuple[tuple[str, str, Plan, LaunchOptions], ...] = (
    ("quadlet", "cpu", FLASH_CPU, OPTIONS),
    ("quadlet", "rtx-4090-offload-key", FLASH_OFFLOAD, KEY),
    ("kubernetes", "cpu", FLASH_CPU, OPTIONS),
    ("kubernetes", "rtx-4090-offload-key", FLASH_OFFLOAD, KEY),
    ("launchd", "m3-ultra", FLASH_M3_ULTRA, OPTIONS),
    ("launchd", "m3-ultra-odd-names", FLASH_M3_ULTRA, ODD),
    ("launchd", "m3-ultra", FLASH_OLLAMA_MAC, OPTIONS),
    ("compose", "cpu", FLASH_OLLAMA, OPTIONS),
    ("compose", "flash-8x-h200-key", FLASH_8X_H200, KEY),
    ("systemd", "flash-8x-h200-key", FLASH_8X_H200, KEY),
    ("quadlet", "flash-8x-h200-key", FLASH_8X_H200, KEY),
    ("quadlet", "flash-8x-mi355x", FLASH_MI355X, OPTIONS),
    ("kubernetes", "flash-8x-h200-key", FLASH_8X_H200, KEY),
    ("kubernetes", "v4.1-flash-4x-b300", V41_B300, OPTIONS),
)


def rendered(target: str, plan: Plan, options: LaunchOptions) -> ArtefactSet:
    engine = plan.chosen.engine
    profile = shipped_profile(engine)
    module = engine_module(engine)
    refusals = [found for found in module.check(plan, options, profile, target) if found.severity is Severity.FAIL]
    assert not refusals
    return render(engine.value, target, module.values(plan, options, profile, target), TEMPLATES)


def text_of(target: str, plan: Plan, options: LaunchOptions = OPTIONS) -> str:
    return "".join(file.text for file in rendered(target, plan, options).artefacts)


@pytest.mark.parametrize(("target", "case", "plan", "options"), CASES)
def test_golden(target: str, case: str, plan: Plan, options: LaunchOptions) -> None:
    assert_golden(rendered(target, plan, options), case)


def documents(plan: Plan, options: LaunchOptions = OPTIONS) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(text_of("kubernetes", plan, options))}


@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_OFFLOAD, FLASH_8X_H200, FLASH_MI355X])
def test_a_pod_has_no_rights_and_weights_to_read_only(plan: Plan) -> None:
    objects = documents(plan)
    assert set(objects) == {"PersistentVolume", "PersistentVolumeClaim", "Service", "Deployment"}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}["weights"] is True
    assert objects["Service"]["spec"]["type"] == "ClusterIP"
    assert objects["Service"]["metadata"]["name"] != "vllm"


@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_8X_H200, V41_B300])
def test_a_pod_is_not_killed_while_it_loads(plan: Plan) -> None:
    deployment = documents(plan)["Deployment"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    timeout = engine_module(plan.chosen.engine).launch_spec(plan, OPTIONS, shipped_profile(plan.chosen.engine)).ready
    assert probe["periodSeconds"] * probe["failureThreshold"] >= timeout.timeout_seconds
    assert deployment["progressDeadlineSeconds"] > probe["periodSeconds"] * probe["failureThreshold"]


def test_a_pod_asks_for_as_many_devices_as_the_plan_takes() -> None:
    for plan, resource in ((FLASH_8X_H200, "nvidia.com/gpu"), (FLASH_MI355X, "amd.com/gpu")):
        (container,) = documents(plan)["Deployment"]["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == {resource: len(plan.chosen.layout.device_indices)}


PLACES: tuple[tuple[str, Plan, Callable[[str], bool]], ...] = (
    ("systemd", FLASH_8X_H200, lambda text: "LoadCredential=api-key:/etc/v4deploy/api key" in text),
    ("quadlet", FLASH_OFFLOAD, lambda text: ",type=mount,target=/run/secrets/api-key" in text),
    ("quadlet", FLASH_8X_H200, lambda text: ",type=mount,target=/run/secrets/api-key" in text),
    ("kubernetes", FLASH_OFFLOAD, lambda text: "secretName: llama-server-v4-flash-0731-key" in text),
    ("kubernetes", FLASH_8X_H200, lambda text: "secretName: vllm-server-v4-flash-0731-key" in text),
    ("compose", FLASH_8X_H200, lambda text: 'file: "/etc/v4deploy/api key"' in text),
)


@pytest.mark.parametrize(("target", "plan", "has_reference"), PLACES)
def test_a_key_is_referred_to(target: str, plan: Plan, has_reference: Callable[[str], bool]) -> None:
    assert has_reference(text_of(target, plan, KEY))
    assert "api-key" not in text_of(target, plan)


@pytest.mark.parametrize("plan", [FLASH_M3_ULTRA, FLASH_OLLAMA_MAC])
def test_an_agent_starts_the_engines_own_words(plan: Plan) -> None:
    (file,) = rendered("launchd", plan, ODD if plan is FLASH_M3_ULTRA else OPTIONS).artefacts
    agent = plistlib.loads(file.text.encode())
    spec = engine_module(plan.chosen.engine).launch_spec(
        plan, ODD if plan is FLASH_M3_ULTRA else OPTIONS, shipped_profile(plan.chosen.engine)
    )
    shell, dash_c, line, *words = agent["ProgramArguments"]
    assert (shell, dash_c) == ("/bin/sh", "-c")
    assert line.startswith('exec "$0" "$@"')
    assert tuple(words) == spec.argv
    assert agent.get("EnvironmentVariables", {}) == dict(spec.env)
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ThrottleInterval"] >= 60
    assert file.path == f"{agent['Label']}.plist"


@pytest.mark.parametrize(
    ("target", "plan", "word"),
    [
        ("launchd", FLASH_CPU, "no-launchd"),
        ("systemd", FLASH_M3_ULTRA, "no-systemd"),
        ("quadlet", FLASH_M3_ULTRA, "no-systemd"),
        ("kubernetes", FLASH_M3_ULTRA, "no-metal-in-containers"),
    ],
)
def test_what_cannot_work_there_is_refused(target: str, plan: Plan, word: str) -> None:
    profile = shipped_profile(plan.chosen.engine)
    found = engine_module(plan.chosen.engine).check(plan, OPTIONS, profile, target)
    assert word in {finding.id.rsplit(".", 1)[1] for finding in found if finding.severity is Severity.FAIL}


@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_8X_H200])
def test_containers_are_published_under_addresses_only(plan: Plan) -> None:
    module, profile = engine_module(plan.chosen.engine), shipped_profile(plan.chosen.engine)
    for target, is_refused in (("compose", True), ("quadlet", True), ("kubernetes", False), ("script", False)):
        found = module.check(plan, replace(OPTIONS, bind="localhost"), profile, target)
        assert any(finding.id.endswith("name-for-address") for finding in found) is is_refused
    assert "[::1]:" in text_of("quadlet", plan, replace(OPTIONS, bind="::1"))


@pytest.mark.parametrize("plan", [FLASH_CPU, FLASH_8X_H200])
def test_a_port_for_root_is_granted_or_told(plan: Plan) -> None:
    module, profile = engine_module(plan.chosen.engine), shipped_profile(plan.chosen.engine)
    low = replace(OPTIONS, port=80)
    for target, is_told in (("script", True), ("quadlet", True), ("systemd", False), ("compose", False)):
        found = module.check(plan, low, profile, target)
        assert any(finding.id == "config.port-for-root" for finding in found) is is_told
    unit = text_of("systemd", plan, low)
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in unit
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in unit
    assert "CAP_NET" not in text_of("systemd", plan)


@pytest.mark.parametrize("target", ["systemd", "compose", "quadlet", "kubernetes"])
def test_a_measured_load_takes_the_place_of_the_assumption(target: str) -> None:
    assert "assumed as nothing was measured" in text_of(target, FLASH_CPU)
    slow = SpeedFigure(low=2000.0, high=2000.0, basis=SpeedBasis.RATE, source="an NFS share, measured on 2026-11-20")
    measured = replace(FLASH_CPU, speed=replace(FLASH_CPU.speed, load_seconds=slow))
    text = text_of(target, measured)
    assert "twice the 2000 s that 155.1 GB take here (an NFS share, measured on 2026-11-20), and 300 s" in text
    assert "4300" in text or "failureThreshold: 287" in text


def test_only_macs_have_launchd_and_only_where_an_engine_runs_there() -> None:
    with_launchd = {engine for engine in EngineId if "launchd" in shipped_profile(engine).targets}
    assert with_launchd == {EngineId.LLAMA_CPP, EngineId.OLLAMA}
    assert FLASH_M3_ULTRA.host.os is OperatingSystem.MACOS


def test_the_table_of_targets_is_what_the_templates_say() -> None:
    rows = [
        line.split("|") for line in (ROOT / "docs" / "targets.md").read_text().splitlines() if line.startswith("| `")
    ]
    documented = {(row[1].strip(" `"), row[2].strip(" `")): row[4].strip() for row in rows if len(row) == 6}
    definitions = {
        (engine.value, target): yaml.safe_load(TEMPLATES.texts[f"{engine.value}/{target}/target.yaml"])["checked"]
        for engine in EngineId
        for target in shipped_profile(engine).targets
    }
    assert documented == definitions
