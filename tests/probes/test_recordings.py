"""Every machine under tests/recordings is what its expected.yaml says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from v4deploy.catalogue.wire_hardware import hardware_of
from v4deploy.catalogue.yaml_source import read_yaml
from v4deploy.documents import from_json, to_data, to_json
from v4deploy.domain.chip import Chip
from v4deploy.domain.hardware import HOST_POOL_ID, HOST_SCHEMA, Host, HostOrigin
from v4deploy.probes.survey import survey, validate_host
from v4deploy.system.recorded import RecordedSystem
from v4deploy.system.yaml_files import read_yaml_file

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted(path.parent for path in (ROOT / "tests" / "recordings").glob("*/expected.yaml"))
DEFAULT_WEIGHTS_DIR = "/home/user/.cache/v4deploy/weights"


@cache
def shipped_chips() -> tuple[Chip, ...]:
    paths = sorted((ROOT / "profiles" / "hardware").glob("*.yaml"))
    return tuple(chip for path in paths for chip in hardware_of(read_yaml(path)).chips)


def surveyed(recording: Path, weights_dir: str = DEFAULT_WEIGHTS_DIR) -> Host:
    return survey(RecordedSystem(recording), weights_dir=weights_dir, chips=shipped_chips())


def flat(pool: Mapping[str, Any]) -> dict[str, Any]:
    """A pool with its three amounts as `total_bytes`, `ceiling_bytes`, `free_bytes`."""
    amounts = {f"{name}_bytes": pool[name]["size_bytes"] for name in ("total", "ceiling", "free")}
    return {"id": pool["id"], "kind": pool["kind"], **amounts}


def check_entries(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> None:
    assert len(found) == len(expected)
    for entry, wanted in zip(found, expected, strict=True):
        assert {key: entry[key] for key in wanted} == wanted


def check_cpu(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    lists = {"has", "lacks"}
    assert {key: found[key] for key in expected.keys() - lists} == {k: v for k, v in expected.items() if k not in lists}
    assert set(expected.get("has", ())) <= set(found["features"])
    assert not set(expected.get("lacks", ())) & set(found["features"])


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_a_recorded_machine_is_what_it_claims(recording: Path) -> None:
    expected = read_yaml_file(recording / "expected.yaml")
    host = surveyed(recording, expected.get("weights_dir", DEFAULT_WEIGHTS_DIR))
    found = to_data(host)

    for key in ("os", "os_version", "container", "kubernetes"):
        assert key not in expected or found[key] == expected[key]
    memory = flat(to_data(host.memory))
    assert {key: memory[key] for key in expected.get("memory", {})} == expected.get("memory", {})
    check_cpu(found["cpu"], expected.get("cpu", {}))
    if "pools" in expected:
        check_entries([flat(pool) for pool in found["pools"] if pool["id"] != HOST_POOL_ID], expected["pools"])
    for key in ("devices", "links", "engines"):
        if key in expected:
            check_entries(found[key], expected[key])
    for disk in expected.get("disks", ()):
        check_entries([entry for entry in found["disks"] if entry["path"] == disk["path"]], [disk])
    assert sum(device.vendor == "nvidia" for device in host.devices) == expected.get(
        "nvidia_devices", len(expected.get("devices", ()))
    )
    prefixes = tuple(expected.get("findings_of", ("",)))
    findings = {f"{finding.severity} {finding.id}" for finding in host.findings if finding.id.startswith(prefixes)}
    assert findings == set(expected["findings"])
    evidence = " ".join(f"{e.value} {e.error}" for finding in host.findings for e in finding.evidence)
    assert all(text in evidence for text in expected.get("evidence", ()))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_a_recorded_host_is_consistent_and_survives_as_a_document(recording: Path) -> None:
    host = surveyed(recording)
    assert host.origin is HostOrigin.RECORDING
    assert validate_host(host) == host
    assert [device.index for device in host.devices] == list(range(len(host.devices)))
    assert from_json(Host, HOST_SCHEMA, to_json(HOST_SCHEMA, host), name="host") == host


def test_recordings_say_where_they_come_from() -> None:
    assert len(RECORDINGS) >= 14
    for recording in RECORDINGS:
        origin = RecordedSystem(recording).origin
        assert origin.source
        assert origin.claim
